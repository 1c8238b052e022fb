"""Settings of outgoing mail."""

import ipaddress
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.utils import parseaddr
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from planes.shared.settings import SharedSettings


class MailSettings(SharedSettings):
    """How mail leaves, whom it is from, and where its links lead."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    public_url: str | None = None
    smtp_host: str | None = None
    smtp_port: int | None = Field(default=None, ge=1, le=65535)
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_insecure: bool = False
    mail_from: str | None = None
    mail_link: str | None = None
    email_verification: bool = False

    @field_validator("public_url")
    @classmethod
    def _check_public_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("https://", "http://")):
            raise ValueError("an http(s) address, as clients reach the gateway")
        return value.rstrip("/") if value else value

    @field_validator("mail_from")
    @classmethod
    def _check_mail_from(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            address = Address(addr_spec=parseaddr(value)[1])
        except (HeaderParseError, ValueError, IndexError) as error:
            raise ValueError("an address, as in `Polyplane <noreply@example.com>`") from error
        if not address.domain or not value.isprintable():
            raise ValueError("an address, as in `Polyplane <noreply@example.com>`")
        return value

    @field_validator("mail_link")
    @classmethod
    def _check_mail_link(cls, value: str | None) -> str | None:
        if value is not None and not ("{action}" in value and "{token}" in value):
            raise ValueError(
                "needs {action} and {token}, as in https://chat.example.com/{action}#{token}"
            )
        return value

    @model_validator(mode="after")
    def _check_mail(self) -> Self:
        if self.smtp_host is None:
            if self.email_verification:
                raise ValueError("GATEWAY_EMAIL_VERIFICATION sends mail: set GATEWAY_SMTP_HOST")
            return self
        if self.mail_from is None or self.public_url is None:
            raise ValueError("GATEWAY_SMTP_HOST needs GATEWAY_MAIL_FROM and GATEWAY_PUBLIC_URL")
        if (self.smtp_username is None) != (self.smtp_password is None):
            raise ValueError("GATEWAY_SMTP_USERNAME and GATEWAY_SMTP_PASSWORD go together")
        if self.smtp_tls == "none" and not (self.smtp_insecure or is_loopback(self.smtp_host)):
            raise ValueError(
                "GATEWAY_SMTP_TLS=none sends secrets in clear to another machine: use starttls or "
                "tls, or set GATEWAY_SMTP_INSECURE=true"
            )
        return self


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine, by its name or address alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
