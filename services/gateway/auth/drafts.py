"""Accounts and workspaces that are not stored yet."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import Role, TenantContext
from services.gateway.auth.models import NewAccount, NewUser, Person, Profile, email_key
from services.gateway.auth.password_policy import PasswordPolicy, personal_words
from services.gateway.auth.passwords import Passwords

_FIRST_PLAN = "free"


@dataclass(frozen=True, slots=True)
class Drafts:
    """Makes the rows of new people, with a tenant of their own on the free plan."""

    passwords: Passwords
    policy: PasswordPolicy
    new_id: Callable[[], UUID]

    async def account(self, new: NewUser) -> NewAccount:
        """Return somebody who signs in by a password.

        Raises:
            InvalidInput: The password is too easy to guess.
            Unavailable: Too many passwords are waiting.
        """
        profile = self._profile(new.email, new.display_name, new.tenant_name)
        words = personal_words(new.email, profile.display_name, profile.tenant_name)
        self.policy.check(new.password, "password", words)
        password_hash = await self.passwords.hash(new.password)
        return NewAccount(profile, email_key(new.email), password_hash)

    def account_without_password(
        self, email: str, display_name: str | None, *, is_verified: bool
    ) -> NewAccount:
        """Return somebody who signs in by an OpenID provider."""
        profile = self._profile(email, display_name, None)
        return NewAccount(profile, email_key(email), None, is_verified)

    def workspace(self, person: Person) -> Profile:
        """Return somebody who is there already as the owner of a new tenant."""
        context = TenantContext(tenant_id=self.new_id(), user_id=person.user_id)
        return _owner(context, person.email, person.display_name, None)

    def _profile(self, email: str, display_name: str | None, tenant_name: str | None) -> Profile:
        context = TenantContext(tenant_id=self.new_id(), user_id=self.new_id())
        return _owner(context, email, display_name or email.partition("@")[0], tenant_name)


def _owner(
    context: TenantContext, email: str, display_name: str, tenant_name: str | None
) -> Profile:
    return Profile(
        context=context,
        role=Role.OWNER,
        email=email,
        display_name=display_name,
        tenant_name=tenant_name or f"{display_name}'s workspace",
        plan=_FIRST_PLAN,
    )
