"""Registering, signing in and out, and keeping signed in."""

from dataclasses import dataclass, replace
from uuid import UUID

import structlog

from planes.shared.domain import TenantContext
from planes.shared.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from services.gateway.auth.drafts import Drafts
from services.gateway.auth.errors import EmailNotVerified
from services.gateway.auth.models import (
    Account,
    Credentials,
    NewUser,
    Profile,
    Tokens,
    email_key,
)
from services.gateway.auth.password_policy import personal_words
from services.gateway.auth.recovery import RecoveryService
from services.gateway.auth.refusals import RefusedSignIns
from services.gateway.auth.registration import registration
from services.gateway.auth.repository import UserRepository
from services.gateway.auth.sessions import Sessions
from services.gateway.limits.throttle import LoginThrottle
from services.gateway.mail.outbox import MailKind

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from, as far as it can be told."""

    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class AuthParts:
    """What signing in takes; `verifies_email`: nobody gets in before their address is confirmed."""

    users: UserRepository
    sessions: Sessions
    drafts: Drafts
    throttle: LoginThrottle
    recovery: RecoveryService
    refusals: RefusedSignIns
    verifies_email: bool = False


class AuthService:
    """Accounts and the proof of owning one."""

    def __init__(self, parts: AuthParts) -> None:
        """Store the parts."""
        self._users = parts.users
        self._sessions = parts.sessions
        self._drafts = parts.drafts
        self._passwords = parts.drafts.passwords
        self._policy = parts.drafts.policy
        self._throttle = parts.throttle
        self._recovery = parts.recovery
        self._refusals = parts.refusals
        self._verifies_email = parts.verifies_email

    async def register(self, new: NewUser, client: Client) -> tuple[Profile, Tokens] | None:
        """Create an account that owns a new tenant, signed in.

        Returns:
            The account; None where addresses are verified: then a mail is on its way, whether or
            not the address was registered, and the answer must not tell.

        Raises:
            InvalidInput: The password is too easy to guess.
            Conflict: The e-mail address is registered, and addresses are not verified.
            TooManyRequests: Too many registrations from this address.
            Unavailable: Redis or PostgreSQL does not answer.
        """
        await self._throttle.register(client.address)
        account = await self._drafts.account(new)
        if self._verifies_email:
            await self._recovery.request(registration(account))
            return None
        session, refresh_token = self._sessions.draft(account.profile.context, client.user_agent)
        await self._users.create(account, session=session)
        _log.info("registered", user_id=str(session.context.user_id))
        return account.profile, await self._sessions.tokens(session, refresh_token)

    async def create_user(self, new: NewUser) -> Profile:
        """Create an account that owns a new tenant, for the operator. Needs PostgreSQL alone.

        The operator vouches for the address: it counts as verified.

        Raises:
            InvalidInput: The password is too easy to guess.
            Conflict: The e-mail address is registered.
        """
        account = replace(await self._drafts.account(new), is_verified=True)
        await self._users.create(account)
        return account.profile

    async def login(
        self, email: str, password: str, client: Client, *, tenant_id: UUID | None = None
    ) -> Tokens:
        """Open a session in the wanted tenant, or else in the last used one.

        Raises:
            Unauthenticated: Unknown address, wrong password, disabled account, or an address that
                nobody has confirmed, untold which.
            NotFound: The user is no member of that tenant.
            TooManyRequests: Too many failures before.
            Unavailable: Redis or PostgreSQL does not answer.
        """
        key = email_key(email)
        found = await self._users.credentials_of_email(key)
        is_right = await self._is_right(password, found, key, client)
        if found is None or not is_right:
            if found is not None:
                reason = "disabled" if found.is_disabled else "password"
                self._refusals.note(found.user_id, reason=reason)
            raise self._refusal()
        try:
            await self.check_verified(found)
        except EmailNotVerified as error:  # to tell would show who registers that it was free
            raise self._refusal() from error  # nor is the attempt forgiven: that could be counted
        await self._throttle.succeed(key, client.address)
        return await self.enter(found.user_id, tenant_id, client, version=found.version)

    def _refusal(self) -> Unauthenticated:
        """Return the one answer to every sign-in that fails."""
        reason = "The e-mail address or the password is wrong"
        if self._verifies_email:
            reason += ", or the address is not confirmed yet: then a mail is on its way to it"
        return Unauthenticated(f"{reason}.")

    async def check_verified(self, found: Credentials) -> None:
        """Keep people out who have not confirmed their address, where that is asked for.

        Raises:
            EmailNotVerified: A mail is on its way to it, unless there was one a moment ago.
        """
        if self._verifies_email and not found.is_verified:
            self._refusals.note(found.user_id, reason="email-not-verified")
            person = await self._users.person(found.user_id)
            if person is not None:
                await self._recovery.post(MailKind.VERIFY_EMAIL, person.email)
            raise EmailNotVerified

    async def enter(
        self, user_id: UUID, wanted: UUID | None, client: Client, *, version: int
    ) -> Tokens:
        """Open a session of somebody who was recognised, in the wanted or the last used tenant.

        Who belongs to no tenant any more gets a new one. `version` is the user's from before the
        proof was checked: whatever has ended the user's sessions since ends this one too.

        Raises:
            NotFound: The user is no member of the wanted tenant.
            Unauthenticated: The user has changed since being recognised.
        """
        tenant_id = await self._users.tenant_to_enter(user_id, wanted)
        if tenant_id is None and wanted is None:
            tenant_id = await self._new_workspace(user_id)
        if tenant_id is None:
            raise NotFound("You are not a member of such a tenant.")
        context = TenantContext(tenant_id=tenant_id, user_id=user_id)
        return await self._sessions.open(context, client.user_agent, version=version)

    async def change_password(
        self, account: Account, *, current: str, new: str, client: Client
    ) -> None:
        """Replace the password; ends all other sessions, and every access token there is.

        Raises:
            Forbidden: The current password is wrong.
            InvalidInput: The new one is too easy to guess.
            TooManyRequests: Too many failures before.
        """
        user_id = account.context.user_id
        profile = await self.profile(account)
        old_hash = await self.check_password(account, current, client)
        words = personal_words(profile.email, profile.display_name, profile.tenant_name)
        self._policy.check(new, "new_password", words)
        version, ended = await self._users.change_password(
            user_id,
            old_hash=old_hash,
            new_hash=await self._passwords.hash(new),
            kept_session=account.session_id,
        )
        await self._sessions.revoked(user_id, ended, version=version)

    async def check_password(self, account: Account, password: str, client: Client) -> str:
        """Return the hash of the caller's password, which they have shown to know.

        Raises:
            Forbidden: It is wrong, or there is none.
            TooManyRequests: Too many failures before.
        """
        key = email_key((await self.profile(account)).email)
        found = await self._users.credentials_of_user(account.context.user_id)
        is_right = await self._is_right(password, found, key, client)
        if found is None or found.password_hash is None or not is_right:
            raise Forbidden("The current password is wrong.")
        await self._throttle.succeed(key, client.address)
        return found.password_hash

    async def has_password(self, account: Account) -> bool:
        """Tell whether the caller signs in by password, and not by a provider alone."""
        found = await self._users.credentials_of_user(account.context.user_id)
        return found is not None and found.password_hash is not None

    async def profile(self, account: Account) -> Profile:
        """Return the caller as a member of the tenant of this session.

        Raises:
            Unauthenticated: The caller is a member no more.
        """
        profile = await self._users.profile(account.context)
        if profile is None:
            raise Unauthenticated("You are no longer a member of this tenant.")
        return profile

    async def _is_right(
        self, password: str, found: Credentials | None, key: str, client: Client
    ) -> bool:
        """Tell whether the password opens the account, at the same cost whatever the answer.

        The attempt counts as a failure until the throttle is told that it was none.
        """
        await self._throttle.begin(key, client.address)
        try:
            stored = found.password_hash if found is not None else None
            is_same = await self._passwords.verify(password, stored)
        except Unavailable:
            await self._throttle.cancel(key, client.address)
            raise
        return found is not None and is_same and not found.is_disabled

    async def _new_workspace(self, user_id: UUID) -> UUID | None:
        person = await self._users.person(user_id)
        if person is None:
            return None
        return await self._users.enter_new_tenant(self._drafts.workspace(person))
