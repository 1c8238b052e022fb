"""A session with a CQL cluster that may be away, at the start too."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
from cassandra.cluster import ResultSet, Session
from cassandra.query import BatchStatement, BatchType, PreparedStatement

from planes.shared.errors import Unavailable
from planes.shared.stores.cql_bridge import NO_ANSWER, CqlBridge
from planes.shared.stores.cql_cluster import (
    DRIVER_ERRORS,
    READ,
    WRITE,
    CqlOptions,
    CqlRefused,
    connected,
    first_line,
)
from planes.shared.stores.cql_schema import check_schema

_FIRST_ANSWER_S = 10.0
_PAUSES_S = (1.0, 2.0, 5.0, 10.0)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement of CQL with `{keyspace}`, which may be repeated without another effect."""

    cql: str
    is_read: bool = False


class CqlSession:
    """Prepared statements on a cluster. Who asks while it is away is told so at once.

    The driver comes back by itself to nodes that it has once seen. A cluster that is away at the
    start is tried again and again, in the background.
    """

    def __init__(self, options: CqlOptions, queries: Sequence[Query]) -> None:
        """Store where the cluster is, and what will be asked; `open` connects."""
        self._options = options
        self._queries = tuple(queries)
        self._prepared: dict[Query, PreparedStatement] = {}
        self._session: Session | None = None
        self._bridge: CqlBridge | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self, *, wait_s: float = _FIRST_ANSWER_S) -> None:
        """Connect, or go on trying where the cluster does not answer within `wait_s`.

        Raises:
            CqlRefused: The cluster answers but cannot serve.
        """
        self._bridge = CqlBridge(max_in_flight=self._options.max_in_flight)
        first = asyncio.Event()
        self._connecting = asyncio.create_task(self._connect(first))
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await first.wait()
        first.set()  # from here on nobody waits for a refusal: it is tried again
        if self._connecting.done():
            await self._connecting

    async def close(self) -> None:
        """Close every connection."""
        self._is_closed = True
        if self._connecting is not None:
            self._connecting.cancel()
            with suppress(asyncio.CancelledError, CqlRefused):
                await self._connecting
        session, self._session = self._session, None
        if session is not None:
            await asyncio.to_thread(session.cluster.shutdown)

    async def execute(
        self,
        query: Query,
        values: Sequence[Any],
        *,
        rows: int | None = None,
        paging_state: bytes | None = None,
        deadlines: int = 1,
    ) -> ResultSet:
        """Run one of the queries and return its first page, of at most `rows`.

        Args:
            query: One of those given before.
            values: In the order of its question marks.
            rows: None is the driver's 5,000.
            paging_state: Of the page before.
            deadlines: How many times as long as other statements it may take.

        Raises:
            Unavailable: The cluster does not answer in time.
        """
        session, bridge = self._reached()
        statement = self._prepared[query].bind(values)
        if rows is not None:
            statement.fetch_size = rows
        return await bridge.execute(
            session,
            statement,
            profile=READ if query.is_read else WRITE,
            deadline_s=self._options.deadline_s * deadlines,
            paging_state=paging_state,
        )

    async def write(self, query: Query, rows: Sequence[Sequence[Any]]) -> None:
        """Run one query for several rows of one partition: all of them are written, or none.

        Raises:
            Unavailable: The cluster does not answer in time.
        """
        session, bridge = self._reached()
        prepared = self._prepared[query]
        batch = BatchStatement(BatchType.UNLOGGED)  # of one partition: the log would add nothing
        batch.is_idempotent = True
        for values in rows:
            batch.add(prepared.bind(values))
        await bridge.execute(session, batch, profile=WRITE, deadline_s=self._options.deadline_s)

    def _reached(self) -> tuple[Session, CqlBridge]:
        """Return what statements go through.

        Raises:
            Unavailable: The cluster was not reached yet.
        """
        if self._session is None or self._bridge is None:
            raise Unavailable(NO_ANSWER)
        return self._session, self._bridge

    async def _connect(self, first: asyncio.Event) -> None:
        """Try until it works; only the first attempt may find that the cluster cannot serve."""
        attempt = 0
        try:
            while True:
                try:
                    await asyncio.to_thread(self._connect_once)
                except (CqlRefused, Unavailable) as error:
                    if isinstance(error, CqlRefused) and not first.is_set() and attempt == 0:
                        raise
                    _log.warning("chat log away", reason=str(error))
                else:
                    if attempt:
                        _log.info("chat log reached")
                    return
                first.set()
                await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
                attempt += 1
        finally:
            first.set()

    def _connect_once(self) -> None:
        """Connect, look at the schema and prepare every query; blocks, in a thread.

        Raises:
            Unavailable: The cluster does not answer.
            CqlRefused: It cannot serve.
        """
        cluster = self._options.cluster()
        is_kept = False
        try:
            session = connected(cluster, self._options.local_dc)
            check_schema(session, self._options.keyspace)
            prepared = {query: self._prepare(session, query) for query in self._queries}
            if not self._is_closed:
                self._prepared, self._session, is_kept = prepared, session, True
        except DRIVER_ERRORS as error:
            raise Unavailable(first_line(error)) from error
        finally:
            if not is_kept:
                cluster.shutdown()

    def _prepare(self, session: Session, query: Query) -> PreparedStatement:
        cql = query.cql.format(keyspace=self._options.keyspace)
        statement = session.prepare(cql)
        statement.is_idempotent = True
        return statement
