"""An OpenID provider: found by discovery, asked for tokens, never believed unverified."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder

from planes.shared.errors import Unauthenticated, Unavailable
from services.gateway.auth.oidc_settings import is_safe_url

_DEADLINE_S = 5.0
_METADATA_S = 3600.0  # how long discovery and keys are believed
_REFRESH_S = 30.0  # an unknown key id asks for new keys at most this often
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OidcClient:
    """Who this platform is at a provider; without a secret it is a public client."""

    issuer: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = ("openid", "email", "profile")


class ProviderMetadata(BaseModel):
    """What is needed of OpenID Connect Discovery 1.0, 3."""

    model_config = ConfigDict(extra="ignore")

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    token_endpoint_auth_methods_supported: list[str] = ["client_secret_basic"]
    authorization_response_iss_parameter_supported: bool = False

    def is_safe(self) -> bool:
        """Whether every address is https, or on this machine."""
        urls = (self.authorization_endpoint, self.token_endpoint, self.jwks_uri)
        return all(map(is_safe_url, urls)) and is_safe_url(self.userinfo_endpoint or urls[0])


class OidcProvider:
    """The calls to one provider; every one has a deadline of five seconds."""

    def __init__(self, client: OidcClient) -> None:
        """Store who we are; `open` makes the pool."""
        self._client = client
        self._http: Client | None = None
        self._metadata: ProviderMetadata | None = None
        self._metadata_at = 0.0
        self._keys: list[dict[str, Any]] = []
        self._keys_at = float("-inf")
        self._refreshing = asyncio.Lock()

    def open(self) -> None:
        """Make the pool of connections; redirects are not followed."""
        timeout = timedelta(seconds=_DEADLINE_S)
        self._http = ClientBuilder().timeout(timeout).follow_redirects(False).build()

    async def close(self) -> None:
        """Close the pool."""
        if self._http is not None:
            await self._http.close()

    async def metadata(self) -> ProviderMetadata:
        """Return where the provider's endpoints are.

        Raises:
            Unavailable: It does not answer, or not as itself.
        """
        is_fresh = time.monotonic() - self._metadata_at < _METADATA_S
        if self._metadata is not None and is_fresh:
            return self._metadata
        url = self._client.issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            found = ProviderMetadata.model_validate(await self._json(self._open_http().get(url)))
        except ValidationError as error:
            raise _unavailable("its discovery document is not whole") from error
        if found.issuer != self._client.issuer or not found.is_safe():
            raise _unavailable("its discovery document is another issuer's, or not safe")
        self._metadata, self._metadata_at = found, time.monotonic()
        return found

    async def keys(self, key_id: str | None) -> list[dict[str, Any]]:
        """Return the keys that may have signed a token: those with its id, all for no id.

        Unknown ids lead to a new look, at most every half minute.
        """
        async with self._refreshing:
            age_s = time.monotonic() - self._keys_at
            found = _matching(self._keys, key_id)
            if age_s > _METADATA_S or (not found and age_s > _REFRESH_S):
                metadata = await self.metadata()
                body = await self._json(self._open_http().get(metadata.jwks_uri))
                keys = body.get("keys")
                self._keys = [key for key in keys or () if isinstance(key, dict)]
                self._keys_at = time.monotonic()
        return _matching(self._keys, key_id)

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Return what the token endpoint gives for a code (RFC 6749, 4.1.3; RFC 7636, 4.5).

        Raises:
            Unauthenticated: The provider does not take the code.
            Unavailable: It does not answer.
        """
        metadata = await self.metadata()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
            "client_id": self._client.client_id,
        }
        request = self._open_http().post(metadata.token_endpoint)
        secret = self._client.client_secret
        if secret is not None and _wants_basic(metadata):
            user = quote_plus(self._client.client_id)  # RFC 6749, 2.3.1
            request = request.basic_auth(user, quote_plus(secret))
        elif secret is not None:
            form["client_secret"] = secret
        return await self._json(request.form(form), is_about_code=True)

    async def userinfo(self, access_token: str) -> dict[str, Any]:
        """Return the claims of the UserInfo endpoint (OpenID Connect Core 1.0, 5.3); {} for none.

        Raises:
            Unavailable: It does not answer.
        """
        endpoint = (await self.metadata()).userinfo_endpoint
        if endpoint is None:
            return {}
        return await self._json(self._open_http().get(endpoint).bearer_auth(access_token))

    def _open_http(self) -> Client:
        if self._http is None:
            raise _unavailable("its client is not open")
        return self._http

    async def _json(
        self, request: RequestBuilder, *, is_about_code: bool = False
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                response = await request.build().send()
                body = await response.json()
        except (PyreqwestError, TimeoutError, ValueError) as error:
            raise _unavailable(type(error).__name__) from error
        if is_about_code and response.status in {400, 401, 403}:
            raise untrusted("the provider refused the code")
        if response.status != 200 or not isinstance(body, dict):
            raise _unavailable(f"it answered {response.status}")
        return body


def untrusted(reason: str) -> Unauthenticated:
    """Return the error of a sign-in that cannot be believed; the reason is logged alone."""
    _log.warning("oidc sign-in refused", reason=reason)
    return Unauthenticated("The provider's answer cannot be trusted. Start the sign-in again.")


def _unavailable(reason: str) -> Unavailable:
    _log.warning("the OpenID provider does not answer", reason=reason)
    return Unavailable("The OpenID provider does not answer. Try again in a moment.")


def _wants_basic(metadata: ProviderMetadata) -> bool:
    methods = metadata.token_endpoint_auth_methods_supported
    return "client_secret_basic" in methods or "client_secret_post" not in methods


def _matching(keys: list[dict[str, Any]], key_id: str | None) -> list[dict[str, Any]]:
    signing: list[Mapping[str, Any]] = [key for key in keys if key.get("use", "sig") == "sig"]
    return [dict(key) for key in signing if key_id is None or key.get("kid", key_id) == key_id]
