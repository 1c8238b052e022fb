"""The stores that a backup is made of, or goes to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from planes.shared.index_ports import ChunkStore
from planes.shared.ports import ChatLog, ObjectStore
from planes.shared.stores.chat_log_settings import ChatLogSettings, open_chat_log
from planes.shared.stores.chunk_settings import (
    ChunkStoreKind,
    ChunkStoreSettings,
    chunk_store,
    chunk_stores,
)
from planes.shared.stores.postgres import Database

Item = TypeVar("Item")
_AT_ONCE = 8
_WHOLE_S = 6 * 3600.0  # one moment of the database may be read for so long


@dataclass(frozen=True, slots=True)
class Stores:
    """All that hold data for good.

    Attributes:
        database: As the owner of its schema; a connection may be used for hours.
        chunks: Of the owner too.
        chunk_store: The store of new generations.
        objects: Files and texts.
        chat_log: Messages.
        chat_log_kind: The log of new messages.
        messages_kept_for: How long messages are kept at least; None: for good.
    """

    database: Database
    chunks: ChunkStore
    chunk_store: ChunkStoreKind
    objects: ObjectStore
    chat_log: ChatLog
    chat_log_kind: str
    messages_kept_for: timedelta | None


@asynccontextmanager
async def open_stores(
    owner_url: str,
    objects: ObjectStore,
    chunk_settings: ChunkStoreSettings,
    log_settings: ChatLogSettings,
    *,
    are_new: bool = False,
) -> AsyncIterator[Stores]:
    """Open the stores.

    Args:
        owner_url: Of the database.
        objects: Files and texts.
        chunk_settings: Where chunks are.
        log_settings: Where messages are.
        are_new: The settings alone say where chunks are, whatever the database says.

    Raises:
        InvalidInput: The chunk store cannot do what is needed.
        Unavailable: A store does not answer.
    """
    database = Database(owner_url, service="backup", max_connections=2, deadline_s=_WHOLE_S)
    others = Database(owner_url, service="backup-stores", max_connections=_AT_ONCE + 2)
    chunks: ChunkStore = (
        chunk_store(chunk_settings, others) if are_new else chunk_stores(chunk_settings, others)
    )
    try:
        await database.open()
        await others.open()
        await chunks.open()
        async with open_chat_log(log_settings, others) as chat_log:
            yield Stores(
                database,
                chunks,
                chunk_settings.chunk_store,
                objects,
                chat_log,
                log_settings.chat_log,
                log_settings.kept_for_at_least,
            )
    finally:
        await chunks.close()
        await others.close()
        await database.close()


async def side_by_side(items: Iterable[Item], work: Callable[[Item], Awaitable[None]]) -> None:
    """Do the same with many items, eight at a time; the first failure ends it."""
    left = iter(items)

    async def take_turns() -> None:
        for item in left:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(take_turns())
    except ExceptionGroup as error:
        raise error.exceptions[0] from error
