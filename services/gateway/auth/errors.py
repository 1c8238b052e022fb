"""Failures of identity that clients tell apart by their problem type.

BadRequest ── InvalidToken
Forbidden ─── EmailNotVerified
NotFound ──── OidcNotConfigured
Unavailable ─ MailNotConfigured
"""

from planes.shared.errors import BadRequest, Forbidden, NotFound, Unavailable


class InvalidToken(BadRequest):
    """A one-time token that is unknown, used or expired; which of them is not told."""

    code, title = "invalid-token", "Invalid token"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("The token is unknown, used or expired. Ask for a new one.")


class EmailNotVerified(Forbidden):
    """The password is right, but nobody has shown that the address is theirs."""

    code, title = "email-not-verified", "E-mail address not verified"

    def __init__(self) -> None:
        """Say what to do."""
        super().__init__("Confirm your e-mail address first: a mail with a token is on its way.")


class OidcNotConfigured(NotFound):
    """There is no OpenID provider."""

    code, title = "oidc-not-configured", "No OpenID provider"

    def __init__(self) -> None:
        """Say what to set."""
        super().__init__(
            "This platform has no OpenID provider; its operator sets GATEWAY_OIDC_ISSUER."
        )


class MailNotConfigured(Unavailable):
    """The platform cannot send mail."""

    code, title = "mail-not-configured", "Mail not configured"

    def __init__(self) -> None:
        """Say who can help."""
        super().__init__(
            "This platform sends no mail. Its operator can give you a new password with "
            "`polyplane admin reset-password`.",
            retry_after_s=None,
        )
