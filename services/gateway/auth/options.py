"""Options of identity from the settings."""

from services.gateway.auth.assembly import MailOptions, OidcOptions
from services.gateway.auth.oidc_provider import OidcClient
from services.gateway.auth.oidc_settings import OidcSettings
from services.gateway.mail.letters import LetterWriter
from services.gateway.mail.settings import MailSettings
from services.gateway.mail.smtp import SmtpServer


def mail_options(settings: MailSettings) -> MailOptions | None:
    """Return how mail leaves; None where the platform sends none."""
    if settings.smtp_host is None or settings.mail_from is None or settings.public_url is None:
        return None
    password = settings.smtp_password
    server = SmtpServer(
        host=settings.smtp_host,
        sender=settings.mail_from,
        port=settings.smtp_port,
        username=settings.smtp_username,
        password=password.get_secret_value() if password else None,
        tls=settings.smtp_tls,
    )
    writer = LetterWriter(settings.public_url, settings.mail_link)
    return MailOptions(server, writer, settings.email_verification)


def oidc_options(settings: OidcSettings) -> OidcOptions | None:
    """Return the OpenID provider; None where there is none."""
    if not (settings.oidc_issuer and settings.oidc_client_id and settings.public_url):
        return None
    secret = settings.oidc_client_secret
    client = OidcClient(
        issuer=settings.oidc_issuer,
        client_id=settings.oidc_client_id,
        client_secret=secret.get_secret_value() if secret else None,
        scopes=settings.oidc_scopes,
    )
    return OidcOptions(client, settings.public_url, settings.oidc_return_url)
