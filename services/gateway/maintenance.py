"""What the gateway does beside requests: sweep, drain, and look at the other parts."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from time import monotonic
from typing import Any

import structlog

from planes.shared.domain import ChatMessage
from planes.shared.errors import PlatformError
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_rows import message_of
from planes.shared.stores.postgres import Database, warnings_logged

_OUTBOX_LEASE = timedelta(seconds=30)
_BATCH = 500
_MOVED_AT_ONCE = 5000  # within one database
_TENANTS_AT_ONCE = 4
_log = structlog.get_logger(__name__)


class ChatLogDrain:
    """Moves stored messages to the chat log, and removes those of deleted conversations."""

    def __init__(self, database: Database, chat_log: ChatLog) -> None:
        """Store both sides."""
        self._database = database
        self._chat_log = chat_log
        self._claimed: list[ChatMessage] = []
        self._claimed_until = 0.0

    async def drain(self) -> int:
        """Move what is due and return how many messages; a repeat changes nothing.

        A log in the same database takes them by one statement. While one elsewhere is away the same
        messages are tried again, instead of more and more being leased that then wait for their
        leases to end.

        Raises:
            Unavailable: The log, or the database, does not answer.
        """
        moved = await self._move()
        if moved is not None:
            return moved
        if monotonic() >= self._claimed_until:
            self._claimed = []
        if not self._claimed:
            await self._claim()
        messages = sorted(self._claimed, key=attrgetter("tenant_id"))
        tenants = groupby(messages, key=attrgetter("tenant_id"))
        await self._append([list(of_tenant) for _, of_tenant in tenants])
        self._claimed = []
        if messages:
            async with self._database.platform() as connection:
                await connection.execute(
                    "SELECT acknowledge_outbox($1)", [message.id for message in messages]
                )
        return len(messages)

    async def _move(self) -> int | None:
        """Have the database move all that is due; None: the log is somewhere else, too."""
        moved = 0
        while True:
            async with self._database.platform() as connection:
                count: int | None = await connection.fetchval(
                    "SELECT drain_outbox($1)", _MOVED_AT_ONCE
                )
            if count is None:
                return None
            moved += count
            if count < _MOVED_AT_ONCE:
                return moved

    async def _append(self, by_tenant: list[list[ChatMessage]]) -> None:
        """Write the messages of several tenants at once; all are through when this returns.

        Raises:
            Unavailable: The log did not take all of them.
        """
        left = iter(by_tenant)

        async def work() -> None:
            for messages in left:
                await self._chat_log.append(messages)

        workers = (work() for _ in by_tenant[:_TENANTS_AT_ONCE])
        for ended in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended

    async def _claim(self) -> None:
        self._claimed_until = monotonic() + _OUTBOX_LEASE.total_seconds() / 2
        async with self._database.platform() as connection:
            rows = await connection.fetch(
                "SELECT * FROM claim_outbox($1, $2)", _BATCH, _OUTBOX_LEASE
            )
        self._claimed = [message_of(row) for row in rows]

    async def purge(self) -> int:
        """Remove deleted conversations from the chat log, then from the database."""
        async with self._database.platform() as connection:
            rows = await connection.fetch("SELECT * FROM purgeable_conversations($1)", _BATCH)
        for row in rows:
            await self._chat_log.remove_conversation(row["tenant_id"], row["conversation_id"])
            async with self._database.tenant(row["tenant_id"]) as connection:
                await connection.execute(
                    "DELETE FROM conversations WHERE tenant_id = $1 AND id = $2",
                    row["tenant_id"],
                    row["conversation_id"],
                )
        return len(rows)


async def expire_unlisted(database: Database, age: timedelta) -> int:
    """Delete what programs asked so long ago; returns how many conversations."""
    removed = 0
    while True:
        async with database.platform() as connection:
            count: int = await connection.fetchval("SELECT expire_unlisted($1, $2)", age, _BATCH)
        removed += count
        if count < _BATCH:
            return removed


async def sweep_reservation(database: Database) -> bool:
    """End the reservation of an answer that nobody carries on; False when there is none.

    One a transaction: two gateways that sweep at once never wait for each other's tenants. One that
    its tenant's books do not let end is put off for ten minutes and logged as an error.
    """
    async with database.platform() as connection:
        with warnings_logged(connection):
            return bool(await connection.fetchval("SELECT sweep_reservations(1)"))


def every(
    seconds: float, name: str, work: Callable[[], Awaitable[Any]]
) -> Coroutine[None, None, None]:
    """Return a coroutine that repeats `work` until it is cancelled; failures are logged."""

    async def repeat() -> None:
        while True:
            try:
                await work()
            except PlatformError as error:
                _log.warning("maintenance waits", work=name, reason=error.detail)
            except Exception:
                _log.exception("maintenance failed", work=name)
            await asyncio.sleep(seconds)

    return repeat()
