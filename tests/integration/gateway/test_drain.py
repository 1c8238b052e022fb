"""Messages on their way from the outbox to the chat log."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from planes.shared.domain import ChatMessage
from planes.shared.errors import Unavailable
from planes.shared.stores.chat_rows import payload_of
from planes.shared.stores.postgres import Database
from services.gateway.maintenance import ChatLogDrain
from tests.contract.test_chat_log import message

TENANTS = [uuid4(), uuid4(), uuid4()]


@pytest.fixture
async def database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """A database whose outbox holds a message of each tenant."""
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.execute("SET session_replication_role = replica")  # nobody else is needed
    for tenant in TENANTS:
        waiting = message(1, uuid4(), tenant=tenant)
        await admin.execute(
            "INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload) "
            "VALUES ($1, $2, $3, 1, $4)",
            *(waiting.id, tenant, waiting.conversation_id),
            orjson.dumps(payload_of(waiting)).decode(),
        )
    await admin.close()
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    yield database
    await database.close()


class SlowLog:
    """Takes a message when as many tenants as wanted are being written; refuses one of them."""

    def __init__(self, refused: UUID | None = None) -> None:
        self.refused = refused
        self.taken: list[UUID] = []
        self._barrier = asyncio.Barrier(len(TENANTS))

    async def append(self, messages: Sequence[ChatMessage]) -> None:
        async with asyncio.timeout(60):
            await self._barrier.wait()
        (tenant,) = {each.tenant_id for each in messages}
        if tenant == self.refused:
            raise Unavailable("The chat log does not answer.")
        self.taken.append(tenant)


async def test_tenants_do_not_wait_for_one_another(database: Database) -> None:
    log = SlowLog()
    assert await ChatLogDrain(database, log).drain() == 3
    assert sorted(log.taken) == sorted(TENANTS)


async def test_what_one_tenant_is_refused_is_tried_again(database: Database) -> None:
    log = SlowLog(refused=TENANTS[0])
    drain = ChatLogDrain(database, log)
    with pytest.raises(Unavailable):
        await drain.drain()
    assert sorted(log.taken) == sorted(TENANTS[1:])
    log.refused = None
    assert await drain.drain() == 3
