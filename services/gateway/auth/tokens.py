"""Access tokens (JWT for OAuth 2.0, RFC 9068) and opaque refresh tokens."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import jwt

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Unauthenticated
from services.gateway.auth.keys import SigningKeys
from services.gateway.auth.models import AccessClaims
from services.gateway.limits.versions import Version

_ALGORITHM = "EdDSA"
_TYPE = "at+jwt"
_REQUIRED = (
    "iss", "aud", "exp", "iat", "nbf", "jti", "sub", "tenant", "role", "session", "sv",
)  # fmt: skip
_MAX_TOKEN_CHARACTERS = 4096
# Compact serialization (RFC 7515, 3.1) with an Ed25519 signature; decoders of base64 would skip
# white space and padding.
_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{86}")
_MAX_CACHED = 10_000
_MIN_SECRET_BYTES = 32

LONGEST_LIFE_S = 600
LONGEST_LEEWAY_S = 60


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Who makes access tokens, for whom, and how long they live.

    Raises:
        ValueError: A lifetime above ten minutes, or a leeway above one.
    """

    issuer: str = "polyplane"
    audience: str = "polyplane-api"
    lifetime_s: int = LONGEST_LIFE_S
    leeway_s: int = 10

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not 0 < self.lifetime_s <= LONGEST_LIFE_S:
            raise ValueError("an access token lives 600 seconds at most")
        if not 0 <= self.leeway_s <= LONGEST_LEEWAY_S:
            raise ValueError("the leeway is 60 seconds at most")


class AccessTokens:
    """Mints and verifies access tokens; a token that was verified once is not verified again."""

    def __init__(
        self,
        keys: SigningKeys,
        rules: TokenRules,
        *,
        new_id: Callable[[], UUID],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Store the keys, the rules, where ids come from and what time it is (seconds)."""
        self._keys = keys
        self._rules = rules
        self._new_id = new_id
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[AccessClaims, str, float]] = OrderedDict()

    @property
    def lifetime_s(self) -> int:
        """Seconds from the minting of a token to its expiry."""
        return self._rules.lifetime_s

    def mint(self, claims: AccessClaims) -> str:
        """Return a signed token that says `claims`."""
        key = self._keys.current()
        now = int(self._clock())
        payload = {
            "iss": self._rules.issuer,
            "aud": self._rules.audience,
            "iat": now,
            "nbf": now,
            "exp": now + self._rules.lifetime_s,
            "jti": str(self._new_id()),
            "sub": str(claims.context.user_id),
            "tenant": str(claims.context.tenant_id),
            "role": claims.role.value,
            "session": str(claims.session_id),
            "sv": claims.version.claim,
        }
        headers = {"kid": key.id, "typ": _TYPE}
        return jwt.encode(payload, key.private, algorithm=_ALGORITHM, headers=headers)

    def verify(self, token: str) -> AccessClaims:
        """Return what a token says. Whether its session still lives is not known here.

        Raises:
            Unauthenticated: Not ours, not for us, not now, or not whole; it does not say which.
        """
        if len(token) > _MAX_TOKEN_CHARACTERS:
            raise _invalid()
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        known = self._verified.get(digest)
        if known is None:
            known = self._verified[digest] = self._decoded(token)
            if len(self._verified) > _MAX_CACHED:
                self._verified.popitem(last=False)
        claims, key_id, expires_at = known
        if expires_at <= self._clock() or self._keys.find(key_id) is None:
            del self._verified[digest]
            raise _invalid()
        self._verified.move_to_end(digest)
        return claims

    def _decoded(self, token: str) -> tuple[AccessClaims, str, float]:
        if _COMPACT.fullmatch(token) is None:
            raise _invalid()
        try:
            return self._decode(token)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _invalid() from error

    def _decode(self, token: str) -> tuple[AccessClaims, str, float]:
        header = jwt.get_unverified_header(token)
        if str(header.get("typ")).lower() != _TYPE or header.get("alg") != _ALGORITHM:
            raise ValueError("not an access token")
        key = self._keys.find(header["kid"])
        if key is None:
            raise ValueError("unknown key")
        payload = jwt.decode(
            token,
            key.public,
            algorithms=[_ALGORITHM],
            audience=self._rules.audience,
            issuer=self._rules.issuer,
            leeway=self._rules.leeway_s,
            options={"require": list(_REQUIRED), "strict_aud": True},
        )
        return _claims(payload), key.id, payload["exp"] + self._rules.leeway_s


def _invalid() -> Unauthenticated:
    return Unauthenticated("The access token is not valid. Sign in again.")


def _claims(payload: dict[str, Any]) -> AccessClaims:
    if any(type(payload[name]) is not int for name in ("sv", "exp", "iat", "nbf")):
        raise TypeError("not an integer")
    if payload["exp"] - payload["iat"] > LONGEST_LIFE_S:
        raise ValueError("lives too long")
    return AccessClaims(
        context=TenantContext(tenant_id=UUID(payload["tenant"]), user_id=UUID(payload["sub"])),
        role=Role(payload["role"]),
        session_id=UUID(payload["session"]),
        version=Version.of_claim(payload["sv"]),
    )


class RefreshTokens:
    """Opaque tokens of 256 bits, each of which determines its one successor.

    The successor is a keyed hash of its parent, so that answering a repeated request with the same
    successor needs no stored secret, and nobody without the key can tell it.
    """

    def __init__(self, secret: str) -> None:
        """Store the key of the hash.

        Raises:
            ValueError: It is shorter than 32 bytes.
        """
        if len(secret.encode()) < _MIN_SECRET_BYTES:
            raise ValueError(f"GATEWAY_REFRESH_SECRET needs {_MIN_SECRET_BYTES} bytes or more")
        self._secret = secret.encode()

    def first(self) -> str:
        """Return a new token."""
        return secrets.token_urlsafe(32)

    def successor(self, parent: str) -> str:
        """Return the token that follows `parent`, always the same one."""
        message = b"polyplane refresh successor:" + parent.encode()
        digest = hmac.digest(self._secret, message, "sha256")
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    def stored(self, token: str) -> bytes:
        """Return the form in which a token is stored."""
        return hashlib.sha256(token.encode()).digest()
