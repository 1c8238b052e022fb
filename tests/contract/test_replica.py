"""Lists by a real streaming replica: as old as is allowed, and by the primary where it is not."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Connection, Database
from planes.shared.stores.postgres_replica import ListReads
from services.embedded.accounts import give_to, identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import OWNER, Postgres
from tests.servers.processes import OwnServer

pytestmark = pytest.mark.contract("lists", "replica", "postgres")
_IS_REPLICA = "SELECT pg_is_in_recovery()"


@pytest.fixture(scope="module")
def replica(server_folder: Path, postgres: Postgres) -> Iterator[tuple[OwnServer, int]]:
    """A replica of the tests' PostgreSQL, and its port."""
    program = Path(postgres.command()[0])
    folder, port = server_folder / "replica", free_port()
    folder.mkdir()
    give_to(unprivileged_account(), folder)
    account = identity(unprivileged_account())
    split = urlsplit(postgres.url("postgres"))
    source = f"host=127.0.0.1 port={split.port} user={OWNER} password={split.password}"
    environment = {**os.environ, **postgres.environment()}
    subprocess.run(
        [
            *(str(program.with_name("pg_basebackup")), "-d", source, "-D", str(folder / "data")),
            *("-R", "--checkpoint=fast", "--wal-method=stream", "--no-sync"),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
        env=environment,
        **account,
    )
    address = ["-h", "127.0.0.1", "-p", str(port), "-k", ""]
    server = OwnServer(
        [str(program), "-D", str(folder / "data"), *address, "-c", "max_connections=200"],
        folder=folder,
        log=server_folder / "replica.log",
        environment=environment,
        account=account,
    )
    server.start()
    yield server, port
    server.end()


@pytest.fixture
async def reads(
    replica: tuple[OwnServer, int], database_urls: dict[str, str]
) -> AsyncIterator[ListReads]:
    url = database_urls["gateway"]
    primary = Database(url, service="test")
    split = urlsplit(url)
    other = split._replace(netloc=f"{split.netloc.rpartition(':')[0]}:{replica[1]}").geturl()
    await primary.open()
    lists = ListReads(
        primary, Database(other, service="test", max_connections=2, deadline_s=2), max_lag_s=5
    )
    yield lists
    await lists.close()
    await primary.close()


async def until(lists: ListReads, is_so: Callable[[], bool]) -> None:
    """Look at the replica again and again until something is so."""
    async with asyncio.timeout(60):
        while not is_so():
            with suppress(Unavailable, asyncpg.InvalidCatalogNameError):  # not copied yet
                await lists.look()
            await asyncio.sleep(0.1)


async def answered_by_replica(lists: ListReads) -> bool:
    return bool(await lists.read(uuid4(), lambda connection: connection.fetchval(_IS_REPLICA)))


async def test_a_replica_that_keeps_up_is_read_and_cannot_be_written(reads: ListReads) -> None:
    assert not await answered_by_replica(reads), "nothing is known of it yet"
    await until(reads, lambda: reads.is_fresh)
    assert await answered_by_replica(reads)
    asked: list[bool] = []

    async def write(connection: Connection) -> str:
        asked.append(await connection.fetchval(_IS_REPLICA))
        return await connection.execute("DELETE FROM conversations")

    assert await reads.read(uuid4(), write) == "DELETE 0"
    assert asked == [True, False], "what the replica refuses, the primary is asked"
    assert not reads.is_fresh


async def test_a_replica_that_falls_behind_or_goes_is_not_read(
    reads: ListReads, replica: tuple[OwnServer, int], database_urls: dict[str, str]
) -> None:
    await until(reads, lambda: reads.is_fresh)
    admin = await asyncpg.connect(database_urls["admin"])
    server, port = replica
    split = urlsplit(database_urls["admin"])
    address = split._replace(netloc=f"{split.netloc.rpartition(':')[0]}:{port}").geturl()
    on_replica = await asyncpg.connect(address)
    try:
        await on_replica.execute("SELECT pg_wal_replay_pause()")
        await admin.execute("CREATE TABLE written_meanwhile ()")
        await until(reads, lambda: not reads.is_fresh)
        assert not await answered_by_replica(reads)
        await on_replica.execute("SELECT pg_wal_replay_resume()")
        await until(reads, lambda: reads.is_fresh)
    finally:
        await on_replica.close()
        await admin.close()
    server.freeze()
    try:
        assert not await answered_by_replica(reads), "whoever asks first waits, and is answered"
        await until(reads, lambda: not reads.is_fresh)
    finally:
        server.go_on()
    await until(reads, lambda: reads.is_fresh)
    assert await answered_by_replica(reads)
