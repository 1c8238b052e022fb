"""Sign-ins by an OpenID provider that have begun, sealed into a cookie of their browser."""

import base64
import hashlib
import secrets
from dataclasses import dataclass
from uuid import UUID

from itsdangerous import BadData, URLSafeTimedSerializer

from planes.shared.errors import BadRequest

ATTEMPT_S = 600  # how long a person may take at the provider


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in that has begun, kept in a cookie of the browser that began it."""

    state: str
    nonce: str
    verifier: str
    wanted: UUID | None

    def challenge(self) -> str:
        """Return the S256 challenge of the verifier (RFC 7636, 4.2)."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Attempts:
    """Signs attempts, so that only the gateway makes them."""

    def __init__(self, secret: str) -> None:
        """Derive a key of its own from the gateway's secret."""
        self._serializer = URLSafeTimedSerializer(
            secret,
            salt="polyplane oidc attempt",
            signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
        )

    def begin(self, wanted: UUID | None) -> Attempt:
        """Return an attempt with fresh secrets of 256 bits each."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return Attempt(state, nonce, verifier, wanted)

    def sealed(self, attempt: Attempt) -> str:
        """Return an attempt as a cookie's value."""
        wanted = str(attempt.wanted) if attempt.wanted else None
        return str(self._serializer.dumps([attempt.state, attempt.nonce, attempt.verifier, wanted]))

    def opened(self, sealed: str | None) -> Attempt:
        """Return the attempt of a cookie.

        Raises:
            BadRequest: There is none, it is not ours, or it took too long.
        """
        try:
            state, nonce, verifier, wanted = self._serializer.loads(sealed or "", max_age=ATTEMPT_S)
        except BadData as error:
            raise not_begun() from error
        return Attempt(state, nonce, verifier, UUID(wanted) if wanted else None)


def not_begun() -> BadRequest:
    """Return the error of an answer to a sign-in that this browser did not begin."""
    return BadRequest("This sign-in was not begun here, or took too long. Start it again.")
