"""The parts of identity, put together for a composition root."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from planes.shared.domain import new_id
from planes.shared.stores.postgres import Database
from services.gateway.auth.access import AccessControl
from services.gateway.auth.api_key_repository import ApiKeyRepository
from services.gateway.auth.api_keys import ApiKeys, PresentedKeys
from services.gateway.auth.drafts import Drafts
from services.gateway.auth.keys import PUBLISH_S, SigningKeys
from services.gateway.auth.oidc import OidcParts, OidcService, OidcSignIn
from services.gateway.auth.oidc_attempts import Attempts
from services.gateway.auth.oidc_provider import OidcClient, OidcProvider
from services.gateway.auth.oidc_repository import OidcRepository
from services.gateway.auth.password_policy import PasswordPolicy
from services.gateway.auth.passwords import Passwords
from services.gateway.auth.people import PeopleService
from services.gateway.auth.people_repository import PeopleRepository
from services.gateway.auth.recovery import MailThrottle, Proofs, RecoveryLetters, RecoveryService
from services.gateway.auth.recovery_repository import RecoveryRepository
from services.gateway.auth.refusals import RefusedSignIns
from services.gateway.auth.registration import RegistrationLetters
from services.gateway.auth.repository import UserRepository
from services.gateway.auth.service import AuthParts, AuthService
from services.gateway.auth.session_repository import SessionRepository, Standings
from services.gateway.auth.sessions import Sessions
from services.gateway.auth.tokens import AccessTokens, RefreshTokens, TokenRules
from services.gateway.limits.addresses import AddressRates
from services.gateway.limits.gate import SessionGate
from services.gateway.limits.rates import LocalRates
from services.gateway.limits.scripts import RedisScripts
from services.gateway.limits.throttle import LoginThrottle
from services.gateway.mail.letters import LetterWriter
from services.gateway.mail.outbox import MailKind, MailOutbox
from services.gateway.mail.smtp import SmtpServer
from services.gateway.tenants.invitations import InvitationLetters


@dataclass(frozen=True, slots=True)
class MailOptions:
    """How mail leaves and what it says; `verifies_email`: nobody signs in before confirming."""

    server: SmtpServer
    writer: LetterWriter
    verifies_email: bool = False


@dataclass(frozen=True, slots=True)
class OidcOptions:
    """The OpenID provider, where it sends people back to, and the page where they end up."""

    client: OidcClient
    public_url: str
    return_url: str | None = None


@dataclass(frozen=True, slots=True)
class IdentityOptions:
    """What an operator decides."""

    keys_dir: Path
    refresh_secret: str
    rules: TokenRules = field(default_factory=TokenRules)
    registrations_per_minute: int = 30
    password_threads: int | None = None
    key_publish_s: float = PUBLISH_S
    mail: MailOptions | None = None
    oidc: OidcOptions | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """The parts that routes and other services use."""

    auth: AuthService
    sessions: Sessions
    access: AccessControl
    api_keys: ApiKeys
    addresses: AddressRates
    gate: SessionGate
    standings: Standings
    signing_keys: SigningKeys
    passwords: Passwords
    recovery: RecoveryService
    refusals: RefusedSignIns
    people: PeopleService
    mail: MailOutbox | None
    oidc: OidcSignIn | None

    def open(self) -> None:
        """Read the signing keys, or make the first one.

        Raises:
            NoSigningKey: A key file cannot be used.
        """
        self.signing_keys.open()
        if self.oidc is not None:
            self.oidc.provider.open()

    async def finish(self) -> None:
        """Write what waits for the audit log, and close connections; before the database closes."""
        await self.refusals.close()
        if self.oidc is not None:
            await self.oidc.provider.close()

    def close(self) -> None:
        """End the threads."""
        self.passwords.close()


def assemble(database: Database, redis: Redis, options: IdentityOptions) -> Identity:
    """Return identity over a database and a Redis; nothing is opened yet."""
    scripts = RedisScripts(redis)
    keys = SigningKeys(options.keys_dir, publish_s=options.key_publish_s)
    tokens = AccessTokens(keys, options.rules, new_id=new_id)
    gate = SessionGate(scripts, token_lifetime_s=options.rules.lifetime_s + options.rules.leeway_s)
    stored_sessions = SessionRepository(database)
    stored_keys = ApiKeyRepository(database)
    refresh = RefreshTokens(options.refresh_secret)
    sessions = Sessions(stored_sessions, gate, tokens, refresh, new_id)
    passwords = Passwords(threads=options.password_threads)
    local_rates = LocalRates(time.monotonic)
    addresses = AddressRates(scripts, local_rates)
    presented = PresentedKeys(stored_keys, addresses)
    registrations = options.registrations_per_minute
    throttle = LoginThrottle(scripts, addresses, registrations_per_minute=registrations)
    users = UserRepository(database)
    drafts = Drafts(passwords, PasswordPolicy(), new_id)
    proofs = Proofs(
        sessions, passwords, drafts.policy, MailThrottle(scripts), options.mail is not None
    )
    recovery = RecoveryService(RecoveryRepository(database), proofs)
    auth_parts = AuthParts(
        users=users,
        sessions=sessions,
        drafts=drafts,
        throttle=throttle,
        recovery=recovery,
        refusals=RefusedSignIns(database),
        verifies_email=options.mail is not None and options.mail.verifies_email,
    )
    auth = AuthService(auth_parts)
    return Identity(
        auth=auth,
        sessions=sessions,
        access=AccessControl(tokens, presented, gate, stored_sessions, local_rates),
        api_keys=ApiKeys(stored_keys, gate, new_id),
        addresses=addresses,
        gate=gate,
        standings=stored_sessions.standings,
        signing_keys=keys,
        passwords=passwords,
        recovery=recovery,
        refusals=auth_parts.refusals,
        people=PeopleService(PeopleRepository(database), sessions, drafts),
        mail=_mail(database, users, options.mail) if options.mail else None,
        oidc=_oidc(database, auth, auth_parts, options) if options.oidc else None,
    )


def _mail(database: Database, users: UserRepository, options: MailOptions) -> MailOutbox:
    tokens = RecoveryRepository(database)
    registration = RegistrationLetters(users, tokens, options.writer)
    composers = {
        **RecoveryLetters(tokens, options.writer).composers(),
        MailKind.REGISTRATION: registration.compose,
        MailKind.INVITATION: InvitationLetters(database, options.writer).compose,
    }
    return MailOutbox(database, options.server, composers)


def _oidc(
    database: Database, auth: AuthService, parts: AuthParts, options: IdentityOptions
) -> OidcSignIn | None:
    if options.oidc is None:
        return None
    provider = OidcProvider(options.oidc.client)
    oidc_parts = OidcParts(
        client=options.oidc.client,
        provider=provider,
        repository=OidcRepository(database),
        users=parts.users,
        drafts=parts.drafts,
        recovery=parts.recovery,
        auth=auth,
        verifies_email=parts.verifies_email,
    )
    redirect_uri = options.oidc.public_url + "/auth/oidc/callback"
    return OidcSignIn(
        service=OidcService(oidc_parts, redirect_uri=redirect_uri),
        attempts=Attempts(options.refresh_secret),
        provider=provider,
        return_url=options.oidc.return_url,
    )
