"""Which settings of mail and of an OpenID provider are accepted."""

import pytest
from pydantic import ValidationError

from services.gateway.auth.oidc_settings import OidcSettings

MAIL = {
    "smtp_host": "mail.example.com",
    "mail_from": "Polyplane <noreply@example.com>",
    "public_url": "https://chat.example.com/",
}
OIDC = {
    "oidc_issuer": "https://login.example.com",
    "oidc_client_id": "polyplane",
    "public_url": "https://chat.example.com",
}


def test_neither_is_needed() -> None:
    assert OidcSettings().smtp_host is None


def test_addresses_are_joined_without_a_double_slash() -> None:
    assert OidcSettings(**MAIL).public_url == "https://chat.example.com"


@pytest.mark.parametrize(
    "settings",
    [
        MAIL | {"smtp_tls": "none", "smtp_host": "127.0.0.1"},
        MAIL | {"smtp_tls": "none", "smtp_host": "localhost"},
        MAIL | {"smtp_tls": "none", "smtp_insecure": True},
        MAIL | {"mail_link": "https://chat.example.com/{action}#{token}"},
        OIDC | {"oidc_issuer": "http://localhost:9000"},
        OIDC | {"oidc_scopes": "openid email groups"},
    ],
)
def test_whole_settings_are_accepted(settings: dict[str, object]) -> None:
    OidcSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"email_verification": True}, "GATEWAY_SMTP_HOST"),
        (MAIL | {"mail_from": None}, "GATEWAY_MAIL_FROM"),
        (MAIL | {"mail_from": "nobody"}, "mail_from"),
        (MAIL | {"mail_from": "a@example.com\nbcc: b@example.com"}, "mail_from"),
        (MAIL | {"public_url": None}, "GATEWAY_PUBLIC_URL"),
        (MAIL | {"public_url": "chat.example.com"}, "public_url"),
        (MAIL | {"smtp_tls": "none"}, "GATEWAY_SMTP_TLS"),
        (MAIL | {"smtp_username": "polyplane"}, "GATEWAY_SMTP_PASSWORD"),
        (MAIL | {"mail_link": "https://chat.example.com/"}, "mail_link"),
        ({"oidc_client_id": "polyplane"}, "GATEWAY_OIDC_ISSUER"),
        (OIDC | {"oidc_client_id": None}, "GATEWAY_OIDC_CLIENT_ID"),
        (OIDC | {"public_url": None}, "GATEWAY_PUBLIC_URL"),
        (OIDC | {"oidc_issuer": "http://login.example.com"}, "GATEWAY_OIDC_ISSUER"),
        (OIDC | {"oidc_return_url": "javascript:alert(1)"}, "GATEWAY_OIDC_RETURN_URL"),
        (OIDC | {"oidc_scopes": "openid"}, "GATEWAY_OIDC_SCOPES"),
    ],
)
def test_half_given_or_insecure_settings_are_refused(
    settings: dict[str, object], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        OidcSettings(**settings)
