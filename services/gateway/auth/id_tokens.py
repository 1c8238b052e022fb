"""ID tokens: who somebody is, as the provider says it (OpenID Connect Core 1.0, 3.1.3.7)."""

import base64
import hmac
from dataclasses import dataclass
from typing import Any

import jwt
from jwt.algorithms import get_default_algorithms

from services.gateway.auth.oidc_provider import OidcClient, OidcProvider, untrusted

# asymmetric alone: "none" and HMAC, whose key an attacker may know, are never taken (RFC 8725, 3.1)
_ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
_REQUIRED = ["iss", "sub", "aud", "exp", "iat", "nonce"]
_LEEWAY_S = 60
_MAX_CHARACTERS = 16_384


@dataclass(frozen=True, slots=True)
class IdTokens:
    """Verifies the ID tokens of one provider."""

    client: OidcClient
    provider: OidcProvider

    async def verify(self, token: object, *, nonce: str, access_token: str) -> dict[str, Any]:
        """Return the claims of a token that was made for us, now, in answer to `nonce`.

        Raises:
            Unauthenticated: It was not.
            Unavailable: The provider's keys cannot be had.
        """
        if not isinstance(token, str) or len(token) > _MAX_CHARACTERS:
            raise untrusted("no ID token")
        try:
            header = jwt.get_unverified_header(token)
            algorithm = str(header.get("alg"))
            if algorithm not in _ALGORITHMS:
                raise untrusted(f"ID token signed by {algorithm[:20]}")
            claims = await self._decode(token, algorithm, header.get("kid"))
            self._check(claims, nonce)
            _check_at_hash(claims, algorithm, access_token)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise untrusted(f"ID token: {type(error).__name__}") from error
        return claims

    async def _decode(self, token: str, algorithm: str, key_id: str | None) -> dict[str, Any]:
        keys = await self.provider.keys(key_id)
        if len(keys) != 1:
            raise untrusted(f"{len(keys)} keys fit the ID token")
        key = jwt.PyJWK.from_dict(keys[0], algorithm=keys[0].get("alg", algorithm))
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            audience=self.client.client_id,
            issuer=self.client.issuer,
            leeway=_LEEWAY_S,
            options={"require": _REQUIRED},
        )
        return claims

    def _check(self, claims: dict[str, Any], nonce: str) -> None:
        if not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise untrusted("the nonce is another one")
        is_for_many = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        party = claims.get("azp", None if is_for_many else self.client.client_id)
        if party != self.client.client_id:
            raise untrusted("the ID token is for another party")
        if not isinstance(claims["sub"], str) or not 0 < len(claims["sub"]) <= 255:
            raise untrusted("the subject is not one")


def _check_at_hash(claims: dict[str, Any], algorithm: str, access_token: str) -> None:
    """Make sure that the access token came with the ID token, where it says so (3.1.3.6)."""
    said = claims.get("at_hash")
    if said is None or algorithm == "EdDSA":  # EdDSA's hash is not defined there
        return
    digest = get_default_algorithms()[algorithm].compute_hash_digest(access_token.encode())
    expected = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=")
    if not hmac.compare_digest(str(said).encode(), expected):
        raise untrusted("the access token is another one")
