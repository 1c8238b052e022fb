"""What the mails say: short, plain text, nothing that tracks."""

import re
from dataclasses import dataclass

from services.gateway.mail.smtp import Letter


@dataclass(frozen=True, slots=True)
class LetterWriter:
    """Writes letters that tell how to use a secret.

    Attributes:
        public_url: Where clients reach the API.
        link: A page of the operator's own interface, with `{action}` and `{token}`; None without
            one: then the letters name the API call.
    """

    public_url: str
    link: str | None = None

    def verification(self, address: str, token: str) -> Letter:
        """Return the letter to somebody who has registered."""
        how = self._how("verify", "POST /auth/verify", '{"token": "%s"}', token)
        text = f"""\
This address was used to create an account at {self.public_url}.

To confirm that it is yours, within 24 hours:

{how}

If it was not you, ignore this mail: without the confirmation nobody can sign in.
"""
        return Letter(address, "Confirm your e-mail address", text)

    def password_reset(self, address: str, token: str) -> Letter:
        """Return the letter to somebody who has forgotten a password."""
        call, body = "POST /auth/password/reset", '{"token": "%s", "new_password": "..."}'
        text = f"""\
Somebody asked for a new password for your account at {self.public_url}.

To choose one, once, within 30 minutes:

{self._how("reset-password", call, body, token)}

If it was not you, ignore this mail: your password stays as it is.
"""
        return Letter(address, "Choose a new password", text)

    def account_exists(self, address: str) -> Letter:
        """Return the letter to somebody who registers again, or whose address somebody tried."""
        text = f"""\
Somebody tried to create an account at {self.public_url} with this address.

You have one already: sign in with it. If you have forgotten the password, ask for a new one with
POST {self.public_url}/auth/password/forgot.

If it was not you, ignore this mail: nothing was changed.
"""
        return Letter(address, "You already have an account", text)

    def invitation(self, address: str, tenant_name: str, token: str) -> Letter:
        """Return the letter to somebody who is to join a tenant."""
        call, body = "POST /tenant/invitations/accept", '{"token": "%s"}'
        text = f"""\
You are invited to join "{_one_line(tenant_name)}" at {self.public_url}.

To accept, sign in or register with this address first, then:

{self._how("invitation", call, body, token)}

If you do not want to, ignore this mail.
"""
        return Letter(address, "You are invited", text)

    def _how(self, action: str, call: str, body: str, token: str) -> str:
        if self.link is not None:
            return "    " + self.link.replace("{action}", action).replace("{token}", token)
        method, _, path = call.partition(" ")
        return f"    {method} {self.public_url}{path}\n    {body % token}"


def _one_line(text: str) -> str:
    """Return text of somebody else's making in one line, with nothing that becomes a link."""
    return re.sub(r"([.:/@])(?=\S)", r"\1 ", " ".join(text.split()))[:100]
