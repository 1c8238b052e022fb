"""The CQL driver's callbacks as coroutines."""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any, TypeAlias

import structlog
from cassandra.cluster import ResponseFuture, ResultSet, Session
from cassandra.query import Statement

from planes.shared.errors import Unavailable
from planes.shared.stores.cql_cluster import DRIVER_ERRORS, first_line

NO_ANSWER = "The chat log does not answer. Try again in a moment."
_SILENCE_S = 10.0
_log = structlog.get_logger(__name__)
_Ended: TypeAlias = "tuple[asyncio.Future[ResultSet], ResultSet | Exception]"


class CqlBridge:
    """Runs statements of one event loop; so many at once, the others wait within their deadline.

    The driver answers in a thread of its own. What it answers in one go wakes the loop once.
    """

    def __init__(self, *, max_in_flight: int) -> None:
        """Take the running loop."""
        self._loop = asyncio.get_running_loop()
        self._slots = asyncio.Semaphore(max_in_flight)
        self._ended: deque[_Ended] = deque()
        self._open: set[asyncio.Future[ResultSet]] = set()
        self._will_settle = False
        self._silent_until = float("-inf")

    async def execute(
        self,
        session: Session,
        statement: Statement,
        *,
        profile: str,
        deadline_s: float,
        paging_state: bytes | None = None,
    ) -> ResultSet:
        """Return one page of rows.

        A caller that is cancelled leaves a statement on its way, which keeps its slot until the
        driver gives it up, at the deadline; then nothing is left of it.

        Raises:
            Unavailable: No answer within the deadline, or none that counts.
        """
        end = self._loop.time() + deadline_s
        try:
            await self._slot(end)
            left = max(0.001, end - self._loop.time())
            waiting = self._send(session, statement, profile, left, paging_state)
            deadline = self._loop.call_at(end, _expire, waiting)
            try:
                return await waiting
            finally:
                deadline.cancel()
        except (TimeoutError, *DRIVER_ERRORS) as error:
            self._note(error)
            raise Unavailable(NO_ANSWER) from error

    async def _slot(self, end: float) -> None:
        """Take a slot; only who has to wait for one pays for a timeout.

        Raises:
            TimeoutError: None was free until `end`.
        """
        if self._slots.locked():
            async with asyncio.timeout_at(end):
                await self._slots.acquire()
        else:
            await self._slots.acquire()

    def _note(self, error: Exception) -> None:
        """Log what the cluster says, not more often than somebody reads it."""
        if self._loop.time() >= self._silent_until:
            self._silent_until = self._loop.time() + _SILENCE_S
            _log.warning("chat log failed", kind=type(error).__name__, reason=first_line(error))

    def _send(
        self,
        session: Session,
        statement: Statement,
        profile: str,
        timeout_s: float,
        paging_state: bytes | None,
    ) -> asyncio.Future[ResultSet]:
        waiting: asyncio.Future[ResultSet] = self._loop.create_future()
        try:
            response = session.execute_async(
                statement,
                timeout=timeout_s,
                execution_profile=profile,
                paging_state=paging_state,
            )
        except BaseException:
            self._slots.release()
            raise
        self._open.add(waiting)
        response.add_callbacks(
            self._answered,
            self._failed,
            callback_args=(waiting, response),
            errback_args=(waiting,),
        )
        return waiting

    def _answered(
        self, rows: Any, waiting: asyncio.Future[ResultSet], response: ResponseFuture
    ) -> None:
        self._end(waiting, ResultSet(response, rows))

    def _failed(self, error: Exception, waiting: asyncio.Future[ResultSet]) -> None:
        self._end(waiting, error)

    def _end(self, waiting: asyncio.Future[ResultSet], outcome: ResultSet | Exception) -> None:
        """Hand an outcome over; called in the driver's thread, or at once in the loop's."""
        self._ended.append((waiting, outcome))
        if not self._will_settle:
            self._will_settle = True
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._will_settle = False  # before the first look: what ends from here on wakes us again
        while self._ended:
            waiting, outcome = self._ended.popleft()
            if waiting not in self._open:  # the second answer to a speculative read
                continue
            self._open.remove(waiting)
            self._slots.release()
            if waiting.done():  # cancelled, or too late
                continue
            if isinstance(outcome, Exception):
                waiting.set_exception(outcome)
            else:
                waiting.set_result(outcome)


def _expire(waiting: asyncio.Future[ResultSet]) -> None:
    if not waiting.done():
        waiting.set_exception(TimeoutError())
