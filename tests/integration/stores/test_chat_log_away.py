"""The chat log in a CQL cluster that is slow, frozen, killed or not there yet."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from planes.shared.domain import ChatMessage
from planes.shared.errors import Unavailable
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_log_settings import open_cql_log
from planes.shared.stores.postgres import Database
from tests.contract.test_chat_log import message
from tests.servers.cassandra import CassandraServer
from tests.servers.cql_fixtures import cql_settings

pytestmark = pytest.mark.contract("messages", "cql", "cassandra")
TENANT = uuid4()
IMPATIENT_S = 1.0


@pytest.fixture
def opened(
    own_cql_values: dict[str, object],
) -> Callable[..., "asynccontextmanager[ChatLog]"]:
    """Open the chat log with other settings."""
    nowhere = Database("postgresql://127.0.0.1:9/none", service="test")  # asked for no plan
    return lambda **values: open_cql_log(cql_settings(own_cql_values, **values), nowhere)


@pytest.fixture
async def log(opened: Callable[..., "asynccontextmanager[ChatLog]"]) -> AsyncIterator[ChatLog]:
    """A chat log that soon gives up."""
    async with opened(cql_deadline_s=IMPATIENT_S, cql_max_in_flight=4) as log:
        yield log


def messages(count: int, conversation_id: UUID) -> list[ChatMessage]:
    return [message(seq, conversation_id, tenant=TENANT) for seq in range(1, count + 1)]


async def answers(log: ChatLog) -> None:
    """Wait until the log answers."""
    async with asyncio.timeout(120):
        while True:
            try:
                return await log.check()
            except Unavailable:
                await asyncio.sleep(0.2)


async def test_a_frozen_node_costs_a_bounded_wait_and_no_other_work(
    log: ChatLog, cassandra_server: CassandraServer
) -> None:
    conversation_id = uuid4()
    kept = messages(3, conversation_id)
    await log.append(kept)
    cassandra_server.freeze()
    try:
        reading = asyncio.create_task(log.page(TENANT, conversation_id, after_seq=0, limit=9))
        for _ in range(5):
            await asyncio.sleep(IMPATIENT_S / 20)
        assert not reading.done()  # others were served meanwhile
        with pytest.raises(Unavailable) as refused:
            await reading
        assert refused.value.retry_after_s
        with pytest.raises(Unavailable):
            await log.append(messages(20, uuid4()))  # more than may be on their way
        with pytest.raises(Unavailable):
            await log.check()
    finally:
        cassandra_server.go_on()
    await answers(log)
    await log.append(messages(3, uuid4()))
    assert await log.page(TENANT, conversation_id, after_seq=0, limit=9) == kept


async def test_callers_that_are_cancelled_leave_nothing_behind(
    log: ChatLog, cassandra_server: CassandraServer
) -> None:
    conversation_id = uuid4()
    cassandra_server.freeze()
    try:
        waiting = [
            asyncio.create_task(log.page(TENANT, conversation_id, after_seq=0, limit=9))
            for _ in range(12)
        ]
        await asyncio.sleep(IMPATIENT_S / 10)
        for task in waiting:
            task.cancel()
        ended = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in ended)
    finally:
        cassandra_server.go_on()
    await answers(log)
    kept = messages(12, conversation_id)
    await log.append(kept)  # every slot is free again
    assert await log.page(TENANT, conversation_id, after_seq=0, limit=99) == kept


async def test_what_was_acknowledged_outlives_a_kill_and_every_log_reaches_the_node_again(
    opened: Callable[..., "asynccontextmanager[ChatLog]"], cassandra_server: CassandraServer
) -> None:
    conversation_id = uuid4()
    all_messages, acknowledged = messages(2000, conversation_id), []
    is_killed = False

    async def append(log: ChatLog, message: ChatMessage) -> None:
        while True:
            try:
                return await log.append([message])
            except Unavailable:  # a busy machine may be late before
                if is_killed:
                    raise

    async def write(log: ChatLog, start: int) -> None:
        nonlocal is_killed
        for each in all_messages[start::8]:
            await append(log, each)
            acknowledged.append(each)
            if len(acknowledged) == 400:
                is_killed = True
                cassandra_server.kill()

    async with opened(cql_deadline_s=IMPATIENT_S) as log:
        ended = await asyncio.gather(
            *(write(log, start) for start in range(8)), return_exceptions=True
        )
        assert all(isinstance(each, Unavailable) for each in ended)
        async with opened(cql_deadline_s=IMPATIENT_S) as late:
            with pytest.raises(Unavailable):
                await late.check()
            cassandra_server.start()
            cassandra_server.wait_until_open()
            await asyncio.gather(answers(log), answers(late))
            found = await late.page(TENANT, conversation_id, after_seq=0, limit=3000)
            assert len(acknowledged) >= 400
            assert {each.id for each in acknowledged} <= {each.id for each in found}
            await log.append(all_messages)
            assert await late.page(TENANT, conversation_id, after_seq=0, limit=3000) == all_messages
