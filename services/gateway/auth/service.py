"""Registering, signing in and out, and keeping signed in."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from planes.shared.domain import Role, TenantContext
from planes.shared.errors import Forbidden, InvalidInput, NotFound, Unauthenticated, Unavailable
from services.gateway.auth.models import (
    Account,
    Credentials,
    NewAccount,
    NewUser,
    Profile,
    Tokens,
)
from services.gateway.auth.password_policy import PasswordPolicy
from services.gateway.auth.passwords import Passwords
from services.gateway.auth.repository import UserRepository
from services.gateway.auth.sessions import Sessions
from services.gateway.limits.throttle import LoginThrottle

_FIRST_PLAN = "free"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Client:
    """Where a request comes from, as far as it can be told."""

    address: str
    user_agent: str


class AuthService:
    """Accounts and the proof of owning one."""

    def __init__(
        self,
        users: UserRepository,
        sessions: Sessions,
        passwords: Passwords,
        throttle: LoginThrottle,
        new_id: Callable[[], UUID],
    ) -> None:
        """Store the parts."""
        self._users = users
        self._sessions = sessions
        self._passwords = passwords
        self._policy = PasswordPolicy()
        self._throttle = throttle
        self._new_id = new_id

    async def register(self, new: NewUser, client: Client) -> tuple[Profile, Tokens]:
        """Create an account that owns a new tenant, signed in.

        Raises:
            InvalidInput: The password is too easy to guess.
            Conflict: The e-mail address is registered.
            TooManyRequests: Too many registrations from this address.
            Unavailable: Redis or PostgreSQL does not answer.
        """
        await self._throttle.register(client.address)
        account = await self._new_account(new)
        session, refresh_token = self._sessions.draft(account.profile.context, client.user_agent)
        await self._users.create(account, session)
        _log.info("registered", user_id=str(session.context.user_id))
        return account.profile, await self._sessions.tokens(session, refresh_token)

    async def create_user(self, new: NewUser) -> Profile:
        """Create an account that owns a new tenant, without signing in. Needs PostgreSQL alone.

        Raises:
            InvalidInput: The password is too easy to guess.
            Conflict: The e-mail address is registered.
        """
        account = await self._new_account(new)
        await self._users.create(account, None)
        return account.profile

    async def login(
        self, email: str, password: str, client: Client, *, tenant_id: UUID | None = None
    ) -> Tokens:
        """Open a session in the wanted tenant, or else in the last used one.

        Raises:
            Unauthenticated: Unknown address, wrong password or disabled account, untold which.
            NotFound: The user is no member of that tenant.
            TooManyRequests: Too many failures before.
            Unavailable: Redis or PostgreSQL does not answer.
        """
        key = email_key(email)
        found = await self._users.credentials_of_email(key)
        is_right = await self._is_right(password, found, key, client)
        if found is None or not is_right:
            raise Unauthenticated("The e-mail address or the password is wrong.")
        return await self._enter(found, tenant_id, client)

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
        found = await self._users.credentials_of_user(user_id)
        is_right = await self._is_right(current, found, email_key(profile.email), client)
        if found is None or not is_right:
            raise Forbidden("The current password is wrong.")
        self._check_password(new, "new_password", profile)
        version, ended = await self._users.change_password(
            user_id,
            old_hash=found.password_hash,
            new_hash=await self._passwords.hash(new),
            kept_session=account.session_id,
        )
        await self._sessions.revoked(user_id, ended, version=version)

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
        """Tell whether the password opens the account, at the same cost whatever the answer."""
        await self._throttle.begin(key, client.address)
        try:
            stored = found.password_hash if found is not None else None
            is_same = await self._passwords.verify(password, stored)
        except Unavailable:
            await self._throttle.cancel(key, client.address)
            raise
        if found is None or not is_same or found.is_disabled:
            return False
        await self._throttle.succeed(key, client.address)
        return True

    async def _enter(self, found: Credentials, wanted: UUID | None, client: Client) -> Tokens:
        tenant_id = await self._users.tenant_to_enter(found.user_id, wanted)
        if tenant_id is None:
            raise NotFound("You are not a member of such a tenant.")
        context = TenantContext(tenant_id=tenant_id, user_id=found.user_id)
        return await self._sessions.open(context, client.user_agent)

    async def _new_account(self, new: NewUser) -> NewAccount:
        name = new.display_name or new.email.partition("@")[0]
        profile = Profile(
            context=TenantContext(tenant_id=self._new_id(), user_id=self._new_id()),
            role=Role.OWNER,
            email=new.email,
            display_name=name,
            tenant_name=new.tenant_name or f"{name}'s workspace",
            plan=_FIRST_PLAN,
        )
        self._check_password(new.password, "password", profile)
        password_hash = await self._passwords.hash(new.password)
        return NewAccount(profile, email_key(new.email), password_hash)

    def _check_password(self, password: str, field: str, profile: Profile) -> None:
        local, _, domain = profile.email.partition("@")
        personal = [profile.email, local, *domain.split(".")]
        personal += [*profile.display_name.split(), *profile.tenant_name.split()]
        flaw = self._policy.flaw(password, personal)
        if flaw is not None:
            fields = [{"pointer": f"/body/{field}", "detail": flaw}]
            raise InvalidInput(flaw, extensions={"errors": fields})


def email_key(email: str) -> str:
    """Return the form in which an e-mail address is unique."""
    return email.strip().casefold()
