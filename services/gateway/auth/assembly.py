"""The parts of identity, put together for a composition root."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from redis.asyncio import Redis

from planes.shared.domain import new_id
from planes.shared.stores.postgres import Database
from services.gateway.auth.access import AccessControl
from services.gateway.auth.keys import SigningKeys
from services.gateway.auth.passwords import Passwords
from services.gateway.auth.repository import UserRepository
from services.gateway.auth.service import AuthService
from services.gateway.auth.session_repository import SessionRepository
from services.gateway.auth.sessions import Sessions
from services.gateway.auth.tokens import AccessTokens, RefreshTokens, TokenRules
from services.gateway.limits.gate import SessionGate
from services.gateway.limits.rates import LocalRates
from services.gateway.limits.scripts import RedisScripts
from services.gateway.limits.throttle import LoginThrottle


@dataclass(frozen=True, slots=True)
class IdentityOptions:
    """What an operator decides."""

    keys_dir: Path
    refresh_secret: str
    rules: TokenRules = field(default_factory=TokenRules)
    registrations_per_minute: int = 30
    password_threads: int = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """The parts that routes and other services use."""

    auth: AuthService
    sessions: Sessions
    access: AccessControl
    signing_keys: SigningKeys
    passwords: Passwords

    def open(self) -> None:
        """Read the signing keys, or make the first one.

        Raises:
            NoSigningKey: A key file cannot be used.
        """
        self.signing_keys.open()

    def close(self) -> None:
        """End the threads."""
        self.passwords.close()


def assemble(database: Database, redis: Redis, options: IdentityOptions) -> Identity:
    """Return identity over a database and a Redis; nothing is opened yet."""
    scripts = RedisScripts(redis)
    keys = SigningKeys(options.keys_dir)
    tokens = AccessTokens(keys, options.rules, new_id=new_id)
    gate = SessionGate(scripts, token_lifetime_s=options.rules.lifetime_s + options.rules.leeway_s)
    stored_sessions = SessionRepository(database)
    refresh = RefreshTokens(options.refresh_secret)
    sessions = Sessions(stored_sessions, gate, tokens, refresh, new_id)
    passwords = Passwords(threads=options.password_threads)
    throttle = LoginThrottle(scripts, registrations_per_minute=options.registrations_per_minute)
    return Identity(
        auth=AuthService(UserRepository(database), sessions, passwords, throttle, new_id),
        sessions=sessions,
        access=AccessControl(tokens, gate, stored_sessions, LocalRates(time.monotonic)),
        signing_keys=keys,
        passwords=passwords,
    )
