"""Copy an index to another store and back, killed on the way, with a writer and an asker at work.

    python -m tests.evaluation.copying.drill --to mongo --chunks 100000
    python -m tests.evaluation.copying.drill --to qdrant --chunks 10000

PostgreSQL -> the other store -> PostgreSQL. Each copy's builder is killed with SIGKILL twice on
the way. Meanwhile documents are added, replaced and deleted, and somebody searches. In the end all
three generations are brought up to date and compared: every chunk and vector has to be equal.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from sqlalchemy import text

from planes.shared.domain import SearchScope, new_id
from planes.shared.stores.chunk_generations import prepare_chunk_store
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_stores
from planes.shared.stores.chunks_by_generation import ChunksByGeneration
from planes.shared.stores.copy_check import CopyCheck, now_of
from planes.shared.stores.generation_keeper import GenerationKeeper
from planes.shared.stores.postgres import Database
from services.embedded.ports import free_port
from services.embedded.postgres import OWNER
from services.embedded.processes import end_with_parent
from services.embedded.schema import create_database, owner_connection
from services.embedded.temporary import temporary_postgres
from tests.evaluation.copying.author import Author
from tests.servers import ferretdb, qdrant
from tests.servers.ferretdb import FerretServer
from tests.servers.qdrant import API_KEY, QdrantServer

_OF_A_DOCUMENT = 50
_KILLS = 2
_PROBE = [1.0] + [0.0] * 383
_BUILDER = """
import asyncio, sys
from planes.data.composition_generations import open_reembedding
from planes.data.pipeline.parse import ParseLimits, Parser
from planes.data.settings import DataSettings
from planes.shared.errors import Unavailable

async def build():
    while True:
        opened = open_reembedding(DataSettings(), int(sys.argv[1]), Parser(ParseLimits()))
        try:
            async with opened as one:
                built = await one.build(seconds=900, gives_way=False)
        except Unavailable as error:  # the sensor starts the next turn
            print(error, flush=True)
            await asyncio.sleep(1)
            continue
        print(built.versions, built.chunks, flush=True)
        if built.failed:
            sys.exit(built.failed)
        if built.is_done:
            return

asyncio.run(build())
"""


@dataclass
class Asker:
    """Searches in the live generation as serving replicas do, again and again."""

    chunks: ChunksByGeneration
    registry: Database
    tenant_id: UUID
    answers: int = 0
    longest_s: float = 0.0
    by_generation: dict[int, int] = field(default_factory=dict)

    async def ask(self, stop: asyncio.Event) -> None:
        import numpy as np

        while not stop.is_set():
            async with self.registry.platform() as connection:
                row = await connection.fetchrow("SELECT * FROM search_scope($1)", self.tenant_id)
            assert row is not None
            live = row["live_generation"]
            scope = SearchScope(self.tenant_id, live, hidden_versions=tuple(row["hidden_versions"]))
            began = time.monotonic()
            vector = np.array(_PROBE, np.float32)
            found = await self.chunks.search("w7 w77 w777", vector, scope=scope, depth=10)
            assert found.candidates, f"generation {live} shows nothing"
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            self.answers += 1
            self.by_generation[live] = self.by_generation.get(live, 0) + 1
            await asyncio.sleep(2.0)


class Drill:
    """One index, which goes from store to store."""

    def __init__(
        self, urls: dict[str, str], settings: ChunkStoreSettings, variables: dict[str, str]
    ):
        self.urls = urls
        self.settings = settings
        self.environment = os.environ | variables | {"DATABASE_URL": urls["polyplane_data"]}
        self.databases = {
            role: Database(urls[role], service="drill", max_connections=6, deadline_s=900)
            for role in (OWNER, "polyplane_data", "polyplane_serving")
        }

    @asynccontextmanager
    async def open(self, folder: Path) -> AsyncIterator["Drill"]:
        async with AsyncExitStack() as stack:
            stores = {}
            for role, database in self.databases.items():
                await database.open()
                stack.push_async_callback(database.close)
                stores[role] = chunk_stores(self.settings, database)
                await stores[role].open()
                stack.push_async_callback(stores[role].close)
            self.owner, self.data = self.databases[OWNER], self.databases["polyplane_data"]
            self.chunks, self.serving = stores[OWNER], stores["polyplane_serving"]
            self.keeper = GenerationKeeper(self.owner, self.chunks)
            self.author = Author(self.owner, self.data, stores["polyplane_data"], folder)
            yield self

    async def fill(self, chunks: int, tenants: int) -> list[UUID]:
        with timed(f"wrote {chunks} chunks of {tenants} tenants to PostgreSQL"):
            ids = [await self.author.add_tenant() for _ in range(tenants)]
            for number in range(chunks // _OF_A_DOCUMENT):
                await self.author.publish(ids[number % tenants], new_id(), _OF_A_DOCUMENT)
        return ids

    async def move(self, target: str) -> int:
        """Copy the live generation, verify the copy, and switch to it."""
        live = await self.keeper.live()
        number = await self.keeper.create_copy(live.number, store=target)
        if target == "mongo":
            await asyncio.to_thread(_index, self.urls["ferretdb"])
        with timed(f"copied generation {live.number} ({live.store}) to {number} ({target})"):
            for kill in range(_KILLS):
                await self.build(number, killed_at=(kill + 1) / (_KILLS + 1))
            asked_at = await now_of(self.owner)
            await self.build(number)
        await self.compare(live.number, number, published_before=asked_at)
        await self.keeper.note_verified(number, {})
        with timed(f"switched to generation {number}"):
            if missing := await self.keeper.switch(number):
                print(f"  {missing} documents came meanwhile: adding them first")
                async with self.author.turn:
                    await self.build(number)
                    assert await self.keeper.switch(number) == 0
        return number

    async def build(self, number: int, *, killed_at: float | None = None) -> None:
        """Run the builder of a generation to its end, or until it has so much of the documents."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _BUILDER, str(number), env=self.environment,
            stdout=asyncio.subprocess.DEVNULL, preexec_fn=end_with_parent(signal.SIGKILL),
        )  # fmt: skip
        while process.returncode is None:
            progress = await self.keeper.progress(number)
            if killed_at and progress.missing <= (1 - killed_at) * progress.versions:
                process.kill()
                print(f"  killed the builder at {progress.versions - progress.missing} of "
                      f"{progress.versions} documents")  # fmt: skip
                killed_at = None
            try:
                async with asyncio.timeout(0.5):
                    await process.wait()
            except TimeoutError:
                continue
        assert process.returncode in {0, -9}, f"the builder ended with {process.returncode}"

    async def compare(
        self, source: int, target: int, *, published_before: datetime | None = None
    ) -> int:
        check, chunks = CopyCheck(self.owner, self.chunks, source=source, target=target), 0
        with timed(f"compared generations {source} and {target}"):
            async for one in check.compare(published_before=published_before):
                assert one.is_equal, f"{len(one.differing)} differ, {one.missing} are missing"
                assert one.sha256[0] == one.sha256[1]
                assert one.chunks[0] == one.chunks[1]
                chunks += one.chunks[0]
            print(f"  {chunks} chunks, equal hashes")
        return chunks


@contextmanager
def timed(what: str):  # type: ignore[no-untyped-def]
    began = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


async def run(target: str, chunks: int, tenants: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with temporary_postgres() as urls:
            urls = dict(urls) | {"ferretdb": urls[OWNER].rpartition("/")[0] + "/ferretdb"}
            variables, server = _other(target, folder, urls)
            variables |= {"CHUNK_STORE": "postgres", "OBJECTS_DIR": name}
            server.start()
            server.wait_until_open()
            try:
                settings = ChunkStoreSettings.of(variables)
                await prepare_chunk_store(settings, urls[OWNER])
                async with Drill(urls, settings, variables).open(folder) as drill:
                    await _drill(drill, target, chunks, tenants)
            finally:
                server.end()


async def _drill(drill: Drill, target: str, chunks: int, tenants: int) -> None:
    ids = await drill.fill(chunks, tenants)
    stop, author = asyncio.Event(), drill.author
    asker = Asker(drill.serving, drill.owner, ids[0])
    async with asyncio.TaskGroup() as group:
        group.create_task(author.work(ids, stop))
        group.create_task(asker.ask(stop))
        there = await drill.move(target)
        back = await drill.move("postgres")
        stop.set()
    for number in (1, there):
        await drill.build(number)
    for number in (1, there):
        assert (await drill.keeper.exact_progress(number)).missing == 0
        assert await drill.compare(back, number) == sum(author.documents.values())
    for tenant_id, version_id in author.deleted:
        assert not await drill.chunks.count_everywhere(tenant_id, [version_id])
    print(
        f"{author.acts} documents added, replaced or deleted meanwhile; {len(author.deleted)} "
        f"versions gone from all stores; {asker.answers} searches, none failed, the longest "
        f"{asker.longest_s:.1f} s, by generation {asker.by_generation}"
    )


def _other(
    target: str, folder: Path, urls: Mapping[str, str]
) -> tuple[dict[str, str], "FerretServer | QdrantServer"]:
    if target == "qdrant":
        if reason := qdrant.missing():
            sys.exit(reason)
        server = QdrantServer(folder / "qdrant", free_port())
        return {
            "QDRANT_URL": server.url,
            "QDRANT_API_KEY": API_KEY,
            "QDRANT_DEADLINE_S": "120",
        }, server
    if reason := ferretdb.missing():
        sys.exit(reason)
    ferretdb.build()
    with owner_connection(urls[OWNER]) as connection:
        create_database(connection, "ferretdb")
    ferret = FerretServer(folder / "ferretdb", free_port(), urls["ferretdb"])
    variables = {"MONGO_EXACT_SEARCH": "true", "MONGO_DEADLINE_S": "300"}
    return {"MONGO_URL": ferret.url, **variables}, ferret


def _index(ferretdb_url: str) -> None:
    """Give FerretDB's tables of chunks indexes that its filters use, which its own are not."""
    with owner_connection(ferretdb_url) as connection:
        tables = "SELECT schemaname, tablename FROM pg_tables WHERE tablename LIKE 'chunks_g%'"
        for schema, table in connection.execute(text(tables)).all():
            for name in ("tenant_id", "version_id"):
                column = f"CREATE INDEX ON {schema}.{table} USING gin ((_jsonb->'{name}'))"
                connection.execute(text(column))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", choices=("mongo", "qdrant"), default="mongo")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--tenants", type=int, default=10)
    given = parser.parse_args()
    asyncio.run(run(given.to, given.chunks, given.tenants))
