"""No use of a connection outlasts its deadline, whatever the server does."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from planes.shared.deadlines import task_within
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from tests.servers.slow_proxy import SlowProxy

_DEADLINE_S = 1.0
_SLACK_S = 2.0


@pytest.fixture
async def proxy(database_urls: dict[str, str]) -> AsyncIterator[SlowProxy]:
    proxy = SlowProxy(urlsplit(database_urls["gateway"]).port or 0)
    await proxy.open()
    yield proxy
    await proxy.close()


@pytest.fixture
async def database(database_urls: dict[str, str], proxy: SlowProxy) -> AsyncIterator[Database]:
    url = urlsplit(database_urls["gateway"])
    behind_proxy = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}"))
    database = Database(
        behind_proxy.geturl(),
        service="test",
        max_connections=2,
        max_waiting=3,
        deadline_s=_DEADLINE_S,
    )
    await database.open()
    yield database
    await database.close()


async def one(database: Database) -> int:
    async with database.tenant(None) as connection:
        return int(await connection.fetchval("SELECT 1"))


async def sleep_in(database: Database, seconds: float) -> None:
    async with database.platform() as connection:
        await connection.execute(f"SELECT pg_sleep({seconds})")


async def test_a_silent_server_fails_every_use_at_the_deadline(
    database: Database, proxy: SlowProxy
) -> None:
    proxy.stall()
    for _ in range(3):  # connections that were open, then new ones
        started = time.monotonic()
        with pytest.raises(Unavailable):
            await one(database)
        assert time.monotonic() - started < _DEADLINE_S + _SLACK_S
    await proxy.heal()
    assert await one(database) == 1


async def test_connections_that_died_in_silence_are_replaced(
    database: Database, proxy: SlowProxy
) -> None:
    await asyncio.gather(*(sleep_in(database, 0.2) for _ in range(2)))  # both are open
    proxy.forget()
    failures = 0
    while True:
        try:
            assert await one(database) == 1
            break
        except Unavailable:
            failures += 1
    assert failures <= 2


async def test_a_long_statement_is_ended_by_the_server_and_keeps_its_connection(
    database: Database,
) -> None:
    async with database.platform() as connection:
        server = await connection.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(Unavailable):
        await sleep_in(database, 60)
    async with database.platform() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == server


async def test_a_cancelled_use_gives_its_connection_back(
    database: Database, proxy: SlowProxy
) -> None:
    uses = [asyncio.create_task(sleep_in(database, 60)) for _ in range(2)]
    await asyncio.sleep(0.2)
    proxy.stall()
    for use in uses:
        use.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.gather(*uses), _DEADLINE_S + _SLACK_S)
    await proxy.heal()
    assert await asyncio.gather(one(database), one(database)) == [1, 1]


async def test_too_many_that_wait_are_refused_at_once(database: Database) -> None:
    await asyncio.gather(*(sleep_in(database, 0.1) for _ in range(2)))  # both are open
    uses = [asyncio.create_task(sleep_in(database, 0.4)) for _ in range(2)]
    await asyncio.sleep(0.1)
    uses += [asyncio.create_task(sleep_in(database, 0)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await one(database)
    assert refused.value.retry_after_s == 1
    await asyncio.gather(*uses)
    assert await one(database) == 1


@pytest.fixture
async def single(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """Of one connection, with time."""
    database = Database(database_urls["gateway"], service="test", max_connections=1)
    await database.open()
    yield database
    await database.close()


async def test_a_queue_that_moves_is_waited_in(single: Database) -> None:
    served = list[int]()

    async def use(number: int) -> None:
        await sleep_in(single, 0.9)
        served.append(number)

    started = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(9):
            if number == 7:
                await asyncio.sleep(4)
            group.create_task(use(number))
    assert time.monotonic() - started > 6  # longer than a silent server is waited for
    assert served == list(range(9))


async def test_a_queue_that_stands_still_is_left(single: Database) -> None:
    use = asyncio.create_task(sleep_in(single, 8))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await one(single)
    assert time.monotonic() - started < 5 + _SLACK_S
    await use


async def test_all_uses_of_a_task_together_end_at_its_deadline(
    database: Database, proxy: SlowProxy
) -> None:
    proxy.delay(0.7)  # in time for one use, too late for what is left to the last
    started = time.monotonic()

    async def use_often() -> None:
        for _ in range(20):
            await sleep_in(database, 0)

    with task_within(2), pytest.raises(Unavailable):
        await use_often()
    assert time.monotonic() - started < 2 + _SLACK_S


async def test_after_the_deadline_of_a_task_there_is_time_to_put_things_right(
    database: Database,
) -> None:
    with task_within(0):
        assert await one(database) == 1


async def test_a_connection_cut_between_two_steps_of_a_statement_is_unavailable(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = asyncpg.Connection._get_statement

    async def prepare_and_cut(connection: Any, *args: Any, **options: Any) -> Any:
        statement = await prepare(connection, *args, **options)
        connection.terminate()
        return statement

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", prepare_and_cut)

    async def ask() -> None:
        async with database.platform() as connection:
            await connection.fetchval("SELECT 1")

    with pytest.raises(Unavailable) as failure:
        await ask()
    assert isinstance(failure.value.__cause__, AttributeError)  # asyncpg's, 'bind_execute'


async def test_a_mistake_of_our_own_is_not_taken_for_a_cut_connection(database: Database) -> None:
    absent: Any = None

    async def mistake() -> None:
        async with database.platform() as connection:
            connection.terminate()
            absent.bind_execute()

    with pytest.raises(AttributeError):
        await mistake()
