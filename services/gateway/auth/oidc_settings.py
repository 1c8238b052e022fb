"""Settings of signing in by an OpenID provider."""

from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from services.gateway.mail.settings import MailSettings, is_loopback


class OidcSettings(MailSettings):
    """Which provider, and who this platform is there; the public address is mail's too."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    oidc_issuer: str | None = None
    oidc_client_id: str | None = None
    oidc_client_secret: SecretStr | None = None
    oidc_scopes: Annotated[tuple[str, ...], NoDecode] = ("openid", "email", "profile")
    oidc_return_url: str | None = None

    @field_validator("oidc_scopes", mode="before")
    @classmethod
    def _split_scopes(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_oidc(self) -> Self:
        if self.oidc_issuer is None:
            if self.oidc_client_id or self.oidc_client_secret or self.oidc_return_url:
                raise ValueError("GATEWAY_OIDC_ISSUER is missing; other GATEWAY_OIDC_* are set")
            return self
        if self.oidc_client_id is None or self.public_url is None:
            raise ValueError(
                "GATEWAY_OIDC_ISSUER needs GATEWAY_OIDC_CLIENT_ID and GATEWAY_PUBLIC_URL"
            )
        if "openid" not in self.oidc_scopes or "email" not in self.oidc_scopes:
            raise ValueError("GATEWAY_OIDC_SCOPES needs openid and email")
        for name, url in (("ISSUER", self.oidc_issuer), ("RETURN_URL", self.oidc_return_url)):
            if url is not None and not is_safe_url(url):
                raise ValueError(f"GATEWAY_OIDC_{name} must be an https address")
        return self


def is_safe_url(url: str) -> bool:
    """Tell whether nobody between can read what is sent to an address: https, or loopback."""
    parts = urlsplit(url)
    if not parts.hostname:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
