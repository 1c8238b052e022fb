"""The chat log where the registry says that it is, and on its way to another one."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import structlog

from planes.shared.domain import ChatMessage
from planes.shared.errors import Unavailable
from planes.shared.ports import ChatLog
from planes.shared.stores.postgres import Database

_KNOWN_S = 1.0
_PLACE = "SELECT live, also, leaving FROM chat_log_place"
_NOTE = "UPDATE chat_log_place SET live = $1 WHERE live IS NULL"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChatLogPlace:
    """Which log is read, and which other one has everything that is written, too, if any.

    `leaving` is one that is given up and being emptied: deletions reach it until it is empty.
    """

    live: str
    also: str | None
    leaving: str | None = None

    @property
    def all(self) -> tuple[str, ...]:
        """Every log that is written to, the one that is read first."""
        return (self.live,) if self.also is None else (self.live, self.also)

    @property
    def filled(self) -> tuple[str, ...]:
        """Every log that may hold messages, the one that is read first."""
        return self.all if self.leaving is None else (*self.all, self.leaving)


class PlacedChatLog:
    """Reads one log and writes one or two, as a row of the database says.

    What is written while that changes stands in both: the row is read again after each writing. A
    reader may know for a second what was before, which is as good, since both have everything then.
    A log whose address this process does not know is `Unavailable`, never taken for empty.
    """

    def __init__(self, database: Database, logs: Mapping[str, ChatLog], *, default: str) -> None:
        """Store the database, the open logs by their kinds, and where they are if nobody said."""
        self._database = database
        self._logs = logs
        self._default = default
        self._known: tuple[float, ChatLogPlace] | None = None
        self._asking: asyncio.Task[ChatLogPlace] | None = None

    async def place(self) -> ChatLogPlace:
        """Return where messages are now.

        Raises:
            Unavailable: The database does not answer.
        """
        now = asyncio.get_running_loop().time()
        async with self._database.platform() as connection:
            row = await connection.fetchrow(_PLACE)
        live, also, leaving = (None, None, None) if row is None else row
        place = ChatLogPlace(live or self._default, also, leaving)
        self._known = (now, place)
        return place

    async def check(self) -> None:
        """Ask the log that is read."""
        await (await self._read()).check()

    async def append(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one tenant to every log; they are durable on return."""
        written: set[str] = set()
        wanted = (await self._recent()).all
        while missing := [kind for kind in wanted if kind not in written]:
            for kind in missing:
                await self._log(kind).append(messages)
                written.add(kind)
            wanted = (await self.place()).all

    async def announce(self, messages: Sequence[ChatMessage]) -> None:
        """Have a deletion hold against `adopt` of these messages."""
        for kind in (await self.place()).all:
            await self._log(kind).announce(messages)

    async def adopt(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one conversation that another log has, unless it was deleted."""
        for kind in (await self.place()).all:
            await self._log(kind).adopt(messages)

    async def page(
        self, tenant_id: UUID, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return up to `limit` messages with `seq > after_seq`, oldest first."""
        log = await self._read()
        return await log.page(tenant_id, conversation_id, after_seq=after_seq, limit=limit)

    async def find(
        self, tenant_id: UUID, conversation_id: UUID, *, seq: int, message_id: UUID
    ) -> ChatMessage | None:
        """Return one message by its whole key; None: there is none."""
        log = await self._read()
        return await log.find(tenant_id, conversation_id, seq=seq, message_id=message_id)

    async def messages(
        self, tenant_id: UUID, conversation_id: UUID
    ) -> AsyncGenerator[list[ChatMessage], None]:
        """Yield all messages of a conversation, those too that others have replaced."""
        log = await self._read()
        async with aclosing(log.messages(tenant_id, conversation_id)) as found:
            async for some in found:
                yield some

    async def is_empty(self) -> bool:
        """Return whether no log has messages, wherever the database says that they are."""
        return all([await log.is_empty() for log in self._logs.values()])

    async def remove_conversation(self, tenant_id: UUID, conversation_id: UUID) -> int:
        """Remove every message of a conversation from every log; return how many the read one had.

        That one is the last, so that what fails on the way is counted when it is repeated.
        """
        count = 0
        for kind in reversed((await self.place()).filled):
            count = await self._log(kind).remove_conversation(tenant_id, conversation_id)
        return count

    async def _recent(self) -> ChatLogPlace:
        """Return where messages are now, or were a second ago; who asks together is told together.

        Raises:
            Unavailable: The database does not answer.
        """
        now = asyncio.get_running_loop().time()
        if self._known is not None and now - self._known[0] < _KNOWN_S:
            return self._known[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self.place())
        return await asyncio.shield(self._asking)

    async def _read(self) -> ChatLog:
        return self._log((await self._recent()).live)

    def _log(self, kind: str) -> ChatLog:
        if kind not in self._logs:
            raise Unavailable("The messages are in a CQL cluster: set CQL_HOSTS.")
        return self._logs[kind]


async def note_place(registry_url: str, kind: str) -> str:
    """Note which chat log the settings name, unless messages are somewhere already.

    Args:
        registry_url: Of the migrated database, as the owner of its schema.
        kind: What the settings name.

    Returns:
        Which log is read.

    Raises:
        Unavailable: The database does not answer.
    """
    database = Database(registry_url, service="polyplane-migrate", max_connections=1)
    await database.open()
    try:
        async with database.platform() as connection:
            await connection.execute(_NOTE, kind)
            live = str(await connection.fetchval("SELECT live FROM chat_log_place"))
    finally:
        await database.close()
    if live != kind:
        _log.warning("messages stay where they are until they are moved", live=live, settings=kind)
    return live
