"""Lists from a streaming replica of PostgreSQL, as long as it keeps up; else from the primary."""

import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import structlog

from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Connection, Database

_Rows = TypeVar("_Rows")
_log = structlog.get_logger(__name__)


class ListReads:
    """Reads whose answers may be a moment old: never quotas, rights, or what was just written.

    How old is known by the write-ahead log: what the primary had written when it was last asked,
    the replica must have replayed within `max_lag_s`.
    """

    def __init__(
        self, primary: Database, replica: Database | None = None, *, max_lag_s: float = 0
    ) -> None:
        """Store both; without a replica all is read from the primary."""
        self._primary = primary
        self._replica = replica
        self._max_lag_s = max_lag_s
        self._written: deque[tuple[float, int]] = deque()
        self._fresh_until = float("-inf")
        self._is_open = False

    @property
    def has_replica(self) -> bool:
        """Whether there is one to look at."""
        return self._replica is not None

    @property
    def is_fresh(self) -> bool:
        """Whether the replica is read."""
        return time.monotonic() < self._fresh_until

    async def look(self) -> None:
        """Find out how far the replica is; to be called about twice a second.

        Raises:
            Unavailable: One of the two does not answer; what was fresh ends by itself.
        """
        if self._replica is None:
            return
        if not self._is_open:
            await self._replica.open()
            self._is_open = True
        asked_at = time.monotonic()
        async with self._primary.platform() as connection:
            written = await connection.fetchval("SELECT pg_current_wal_lsn()")
        self._written.append((asked_at, written))
        async with self._replica.platform() as connection:
            replayed = await connection.fetchval("SELECT pg_last_wal_replay_lsn()")
        self._note(replayed)

    def _note(self, replayed: int | None) -> None:
        was_fresh = self.is_fresh
        oldest = time.monotonic() - self._max_lag_s
        while self._written and self._written[0][0] < oldest:
            self._written.popleft()
        reached = [at for at, lsn in self._written if replayed is not None and lsn <= replayed]
        if reached:
            self._fresh_until = max(self._fresh_until, reached[-1] + self._max_lag_s)
        if self.is_fresh != was_fresh:
            _log.info("lists are read from the replica", is_fresh=self.is_fresh)

    async def read(self, tenant_id: UUID, query: Callable[[Connection], Awaitable[_Rows]]) -> _Rows:
        """Run a query that reads, in a transaction that sees one tenant.

        Where the replica fails, also in the middle because its recovery does not wait any longer,
        the primary is asked the same.

        Raises:
            Unavailable: The primary does not answer.
        """
        if self._replica is not None and self.is_fresh:
            try:
                async with self._replica.tenant(tenant_id) as connection:
                    return await query(connection)
            except Unavailable:
                self._fresh_until = float("-inf")
        async with self._primary.tenant(tenant_id) as connection:
            return await query(connection)

    async def close(self) -> None:
        """Close the replica's connections."""
        if self._replica is not None:
            await self._replica.close()
