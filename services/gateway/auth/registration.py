"""Registration where addresses are verified: the answer is the same for every address.

A request hashes the password and stores one row, whoever registers. The account is made when the
mail is written; if there is one already, its owner is told that instead.
"""

from typing import Any
from uuid import UUID

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Conflict
from services.gateway.auth.models import NewAccount, Profile, email_key
from services.gateway.auth.one_time_tokens import TokenKind
from services.gateway.auth.recovery_repository import RecoveryRepository
from services.gateway.auth.repository import UserRepository
from services.gateway.mail.letters import LetterWriter
from services.gateway.mail.outbox import MailKind, Occasion
from services.gateway.mail.smtp import Letter


def registration(account: NewAccount) -> Occasion:
    """Return the mail that makes an account."""
    profile = account.profile
    details = {
        "user_id": str(profile.context.user_id),
        "tenant_id": str(profile.context.tenant_id),
        "display_name": profile.display_name,
        "tenant_name": profile.tenant_name,
        "plan": profile.plan,
        "password_hash": account.password_hash,
    }
    return Occasion(MailKind.REGISTRATION, profile.email, details)


class RegistrationLetters:
    """Makes the account of a registration, and writes the letter about it."""

    def __init__(
        self, users: UserRepository, tokens: RecoveryRepository, writer: LetterWriter
    ) -> None:
        """Store the parts."""
        self._users = users
        self._tokens = tokens
        self._writer = writer

    async def compose(self, occasion: Occasion) -> Letter | None:
        """Make the account, once, and return the letter to its address."""
        account = _account(occasion.address, occasion.details)
        try:
            await self._users.create(account)
        except Conflict:
            found = await self._users.credentials_of_email(account.email_key)
            if found is None or found.user_id != account.profile.context.user_id:
                address = await self._tokens.stored_address(account.email_key)
                return self._writer.account_exists(address) if address else None
        minted = await self._tokens.mint(TokenKind.VERIFY_EMAIL, account.email_key)
        return self._writer.verification(*minted) if minted else None


def _account(email: str, details: Any) -> NewAccount:
    context = TenantContext(tenant_id=UUID(details["tenant_id"]), user_id=UUID(details["user_id"]))
    profile = Profile(
        context=context,
        role=Role.OWNER,
        email=email,
        display_name=details["display_name"],
        tenant_name=details["tenant_name"],
        plan=details["plan"],
    )
    return NewAccount(profile, email_key(email), details["password_hash"])
