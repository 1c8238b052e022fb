"""Sessions and limits in Redis: one script for each authenticated request."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias
from uuid import UUID

import structlog

from services.gateway.limits.rates import Backlog, EndpointClass, PlanLimits, Rate, Rates
from services.gateway.limits.revocations import REVOCATIONS, Revocation
from services.gateway.limits.scripts import RedisScripts, RedisUnavailable
from services.gateway.limits.versions import Version

_SESSION_TTL_S = 60  # how old a plan or a membership may be here
_MAX_UNSENT = 10_000
_MAX_NAMES = 20_000
_NOTHING = Backlog()
_log = structlog.get_logger(__name__)

_Scope: TypeAlias = tuple[UUID, UUID | None]
"""A user in every tenant (None), or in one."""


class Standing(IntEnum):
    """What the gate knows of a request; the numbers are the script's."""

    ADMITTED = 0
    LIMITED = 1
    ENDED = 2
    UNKNOWN = 3
    OUTDATED = 4


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session or an API key in a tenant, and the version that it is known with."""

    user_id: UUID
    tenant_id: UUID
    session_id: UUID
    version: Version

    @property
    def names(self) -> list[str]:
        """What Redis calls the user's version, the membership's, and the session."""
        user_id = self.user_id
        versions = [_version_key(user_id, None), _version_key(user_id, self.tenant_id)]
        return [*versions, _session_key(user_id, self.session_id)]


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer; there are rates where the session is known and alive.

    The `history` of Redis is another one after each of its restarts and failovers.
    """

    standing: Standing
    history: int
    rates: Rates | None = None


@dataclass(frozen=True, slots=True)
class _Unsent:
    """What Redis has yet to be told of one user, or of one user in one tenant."""

    version: int = 0
    ended: frozenset[UUID] = frozenset()
    stale: frozenset[UUID] = frozenset()


class SessionGate:
    """Which sessions are alive and what their users may still do this minute.

    A session that Redis does not know is `UNKNOWN`: read PostgreSQL, `remember`, ask again. So a
    key that Redis dropped for want of memory costs a query and changes no decision. All keys of one
    call share the hash tag of the user, so that they lie on one node of a cluster.
    """

    def __init__(self, scripts: RedisScripts, *, token_lifetime_s: int) -> None:
        """Store the scripts, and the age at which no access token is valid any more."""
        self._scripts = scripts
        self._token_lifetime_s = token_lifetime_s
        self._unsent: dict[_Scope, _Unsent] = {}
        self._sending = asyncio.Lock()

    async def check(
        self,
        session: SessionKey,
        endpoint: EndpointClass,
        backlogs: Mapping[EndpointClass, Backlog] | None = None,
    ) -> Verdict:
        """Judge and count one request, against all of its limits or against none.

        Args:
            session: Who asks.
            endpoint: The class of the call.
            backlogs: How far ahead of now this process knows each limit to be used; counts where
                Redis has lost it.

        Raises:
            RedisUnavailable: Redis does not answer; nothing was counted.
        """
        await self.send_unsent()
        known, policies, version = backlogs or {}, endpoint.policies, session.version
        keys = _access_keys(session.user_id, session.tenant_id, session.session_id, endpoint)
        learned = [known.get(policy, _NOTHING) for policy in policies]
        arguments: list[str | int] = [version.user, version.membership, *policies]
        arguments += [each.us for each in learned] + [each.history for each in learned]
        standing, history, *states = await self._scripts.run("access", keys, *arguments)
        rates = _rates(policies, states, history) if states else None
        return Verdict(Standing(standing), history, rates)

    async def remember(self, session: SessionKey, limits: PlanLimits, *, history: int) -> None:
        """Keep what PostgreSQL says of a session that is alive.

        Args:
            session: Who it is.
            limits: Of the plan.
            history: Of the verdict after which PostgreSQL was asked; in another one nothing is
                kept.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        fields: list[str | int] = []
        for endpoint in EndpointClass:
            fields += [endpoint, limits.of(endpoint)]
        await self._scripts.run(
            "remember",
            session.names,
            session.version.user,
            session.version.membership,
            self._token_lifetime_s,
            _SESSION_TTL_S,
            history,
            *fields,
        )

    async def revoke(
        self,
        user_id: UUID,
        session_ids: Collection[UUID],
        *,
        version: int = 0,
        tenant_id: UUID | None = None,
    ) -> None:
        """End sessions that PostgreSQL has ended, and tokens of versions below `version`.

        With a `tenant_id` it is the version of the user's membership there, and tokens for other
        tenants go on.

        Where Redis does not answer it is told before it is next asked; until then `check` fails,
        and its callers read PostgreSQL.
        """
        await self._tell((user_id, tenant_id), _Unsent(version, frozenset(session_ids)))

    async def forget(self, user_id: UUID, session_ids: Collection[UUID]) -> None:
        """Drop what Redis knows of sessions that go on: a new plan or role acts at once."""
        await self._tell((user_id, None), _Unsent(stale=frozenset(session_ids)))

    async def send_unsent(self) -> None:
        """Tell Redis what it has missed; to be called now and then.

        Raises:
            RedisUnavailable: It still does not answer.
        """
        if not self._unsent:
            return
        async with self._sending:  # nobody is judged before all of it is sent
            for scope, unsent in list(self._unsent.items()):
                await self._send(scope, unsent)
                if self._unsent.get(scope) is unsent:
                    del self._unsent[scope]

    async def _tell(self, scope: _Scope, news: _Unsent) -> None:
        try:
            await self._send(scope, news)
        except RedisUnavailable:
            known = self._unsent.get(scope, _Unsent())
            if scope not in self._unsent and len(self._unsent) >= _MAX_UNSENT:
                _log.error("revocation not kept for Redis", user_id=str(scope[0]))
                return
            self._unsent[scope] = _Unsent(
                max(known.version, news.version),
                known.ended | news.ended,
                known.stale | news.stale,
            )

    async def _send(self, scope: _Scope, news: _Unsent) -> None:
        user_id, _ = scope
        if news.stale:
            stale = [_session_key(user_id, each) for each in news.stale]
            await self._scripts.run("stale", stale)
        if news.ended or news.version:
            keys = [_version_key(*scope), *(_session_key(user_id, each) for each in news.ended)]
            said = Revocation(user_id, news.ended, news.version).encoded()
            arguments = (news.version, self._token_lifetime_s, REVOCATIONS, said)
            await self._scripts.run("revoke", keys, *arguments)


@lru_cache(_MAX_NAMES)
def _access_keys(
    user_id: UUID, tenant_id: UUID, session_id: UUID, endpoint: EndpointClass
) -> Sequence[str]:
    names = SessionKey(user_id, tenant_id, session_id, Version()).names
    return (*names, *(f"rate:{{{user_id}}}:{policy}" for policy in endpoint.policies))


def _rates(policies: Iterable[EndpointClass], states: Iterable[int], history: int) -> Rates:
    """Return the script's answer, four numbers a policy, as rates."""
    numbers = iter(states)
    each = [
        Rate(policy, next(numbers), next(numbers), next(numbers) / 1e6, next(numbers) / 1e6)
        for policy in policies
    ]
    return Rates(tuple(each), history)


def _version_key(user_id: UUID, tenant_id: UUID | None) -> str:
    return f"version:{{{user_id}}}" + (f":{tenant_id}" if tenant_id else "")


def _session_key(user_id: UUID, session_id: UUID) -> str:
    return f"session:{{{user_id}}}:{session_id}"
