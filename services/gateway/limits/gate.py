"""Sessions and limits in Redis: one script for each authenticated request."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from services.gateway.limits.rates import EndpointClass, PlanLimits, Rate
from services.gateway.limits.scripts import RedisScripts, RedisUnavailable

_SESSION_TTL_S = 60  # how old a plan or a membership may be here
_MAX_UNSENT = 10_000


class Standing(IntEnum):
    """What the gate knows of a request; the numbers are the script's."""

    ADMITTED = 0
    LIMITED = 1
    REVOKED = 2
    UNKNOWN = 3


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session, and the version of its user that a token was made for."""

    user_id: UUID
    session_id: UUID
    version: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer; there is a rate where the session is known and alive."""

    standing: Standing
    rate: Rate | None = None


class SessionGate:
    """Which sessions are alive and what their users may still do this minute.

    A session that Redis does not know is `UNKNOWN`: read PostgreSQL, `remember`, ask again. All
    keys of one call share the hash tag of the user, so that they lie on one node of a cluster.
    """

    def __init__(self, scripts: RedisScripts, *, token_lifetime_s: int) -> None:
        """Store the scripts, and the age at which no access token is valid any more."""
        self._scripts = scripts
        self._token_lifetime_s = token_lifetime_s
        self._unsent: dict[UUID, tuple[int, frozenset[UUID]]] = {}
        self._sending = asyncio.Lock()

    async def check(self, session: SessionKey, endpoint: EndpointClass) -> Verdict:
        """Judge and count one request.

        Raises:
            RedisUnavailable: Redis does not answer; nothing was counted.
        """
        if self._unsent:
            await self._send_unsent()
        user = session.user_id
        keys = [
            _version_key(user),
            _session_key(user, session.session_id),
            f"rate:{{{user}}}:{endpoint}",
        ]
        standing, *rest = await self._scripts.run("access", keys, session.version, endpoint)
        if not rest:
            return Verdict(Standing(standing))
        limit, remaining, reset_us, retry_us = rest
        rate = Rate(endpoint, limit, remaining, reset_us / 1e6, retry_us / 1e6)
        return Verdict(Standing(standing), rate)

    async def remember(self, session: SessionKey, limits: PlanLimits) -> None:
        """Keep what PostgreSQL says of a session that is alive.

        Raises:
            RedisUnavailable: Redis does not answer.
        """
        fields: list[str | int] = []
        for endpoint in EndpointClass:
            fields += [endpoint, limits.of(endpoint)]
        await self._scripts.run(
            "remember",
            [_version_key(session.user_id), _session_key(session.user_id, session.session_id)],
            session.version,
            self._token_lifetime_s,
            _SESSION_TTL_S,
            *fields,
        )

    async def revoke(
        self, user_id: UUID, session_ids: Collection[UUID], *, version: int = 0
    ) -> None:
        """End sessions that PostgreSQL has ended, and tokens of versions below `version`.

        Where Redis does not answer it is told before it is next asked; until then `check` fails,
        and its callers read PostgreSQL.
        """
        try:
            await self._send(user_id, session_ids, version)
        except RedisUnavailable:
            known, sessions = self._unsent.get(user_id, (0, frozenset()))
            if user_id in self._unsent or len(self._unsent) < _MAX_UNSENT:
                self._unsent[user_id] = (max(known, version), sessions.union(session_ids))

    async def _send_unsent(self) -> None:
        async with self._sending:  # nobody is judged before all of it is sent
            for user_id, unsent in list(self._unsent.items()):
                version, session_ids = unsent
                await self._send(user_id, session_ids, version)
                if self._unsent.get(user_id) is unsent:
                    del self._unsent[user_id]

    async def _send(self, user_id: UUID, session_ids: Collection[UUID], version: int) -> None:
        keys = [_version_key(user_id), *(_session_key(user_id, each) for each in session_ids)]
        await self._scripts.run("revoke", keys, version, self._token_lifetime_s)


def _version_key(user_id: UUID) -> str:
    return f"version:{{{user_id}}}"


def _session_key(user_id: UUID, session_id: UUID) -> str:
    return f"session:{{{user_id}}}:{session_id}"
