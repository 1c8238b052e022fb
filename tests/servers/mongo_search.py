"""A double of MongoDB's search: a proxy in front of a server that has none.

    python -m tests.servers.mongo_search PORT mongodb://127.0.0.1:27017

It passes everything on, and answers `$vectorSearch`, `$search`, `$listSearchIndexes` and the
commands of search indexes itself, as MongoDB documents them, refusing what MongoDB refuses. The
documents are those of the server behind; so an index here is never behind the collection, which
MongoDB's are by a moment. Of what may follow a search in a pipeline it knows `$project`,
`$addFields`, `$limit` and `$group` with `{$sum: 1}`.
"""

import asyncio
import contextlib
import os
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from tests.servers.mongo_search_indexes import SearchIndexes
from tests.servers.mongo_text_search import text_search
from tests.servers.mongo_vector_search import Scored, vector_search
from tests.servers.mongo_wire import (
    CommandError,
    Document,
    answer_to,
    command_name,
    command_of,
    read_message,
)
from tests.servers.processes import OwnServer

_SEARCHES = {"$vectorSearch": "vectorSearchScore", "$search": "searchScore"}
_FIRST = {*_SEARCHES, "$listSearchIndexes"}
_OWN = {"createSearchIndexes", "updateSearchIndex", "dropSearchIndex"}


class SearchDouble:
    """Answers what the server behind cannot."""

    def __init__(self, client: AsyncMongoClient[Document], *, build_s: float) -> None:
        """Store the client of the server behind, and how long an index is built."""
        self._client = client
        self._indexes = SearchIndexes(client["search_double"]["indexes"], build_s=build_s)

    async def answer(self, message: bytes) -> Document | None:
        """Return the answer to a message; None where it is for the server behind."""
        name = command_name(message)
        if name == "drop":
            command = command_of(message)
            await self._indexes.drop_all(f"{command['$db']}.{command['drop']}")
        if name not in {"aggregate", *_OWN}:
            return None
        command = command_of(message)
        try:
            return await self._own(name, command)
        except CommandError as error:
            return error.answer

    async def _own(self, name: str, command: Document) -> Document | None:
        database, collection = self._client[command["$db"]], command[name]
        namespace = f"{command['$db']}.{collection}"
        if name == "createSearchIndexes":
            await _check_exists(database, collection)
            return await self._indexes.create(namespace, command["indexes"])
        if name == "updateSearchIndex":
            return await self._indexes.update(namespace, command["name"], command["definition"])
        if name == "dropSearchIndex":
            return await self._indexes.drop(namespace, command["name"])
        found = await self._aggregate(database, collection, command["pipeline"])
        if found is None:
            return None
        return {"ok": 1.0, "cursor": {"id": 0, "ns": namespace, "firstBatch": found}}

    async def _aggregate(
        self, database: AsyncDatabase[Document], name: str, pipeline: list[Document]
    ) -> list[Document] | None:
        stages = [next(iter(stage)) for stage in pipeline]
        for stage in stages[1:]:
            if stage in _FIRST:
                message = f"{stage} is only valid as the first stage in a pipeline"
                raise CommandError(40602, "Location40602", message)
        if not stages or stages[0] not in _FIRST:
            return None
        collection, body = database[name], pipeline[0][stages[0]]
        if stages[0] == "$listSearchIndexes":
            return await self._indexes.listed(collection.full_name, body)
        search = vector_search if stages[0] == "$vectorSearch" else text_search
        found = await search(collection, body, self._indexes)
        return _after(found, pipeline[1:], _SEARCHES[stages[0]])


async def _check_exists(database: AsyncDatabase[Document], name: str) -> None:
    if name not in await database.list_collection_names():
        message = f"Collection '{database.name}.{name}' does not exist."
        raise CommandError(26, "NamespaceNotFound", message)


def _after(found: Scored, stages: list[Document], score_name: str) -> list[Document]:
    """Run the rest of a pipeline."""
    rows = [({"$score": score}, document) for score, document in found]
    for stage in stages:
        ((name, body),) = stage.items()
        if name == "$limit":
            rows = rows[:body]
        elif name in {"$project", "$addFields", "$set"}:
            shape = _project if name == "$project" else _add
            rows = [(meta, shape(row, body, meta["$score"], score_name)) for meta, row in rows]
        elif name == "$group":
            rows = [({"$score": 0.0}, row) for row in _group([row for _, row in rows], body)]
        else:
            raise CommandError(
                40324, "Location40324", f"Unrecognized pipeline stage name: '{name}'"
            )
    return [row for _, row in rows]


def _project(row: Document, body: Document, score: float, score_name: str) -> Document:
    values = _metas(body, score, score_name)
    if any(value == 1 for name, value in body.items() if name not in values):
        kept = {name for name, value in body.items() if value == 1} | {"_id"}
        kept -= {name for name, value in body.items() if value == 0}
        return {name: value for name, value in row.items() if name in kept} | values
    dropped = {name for name, value in body.items() if value == 0}
    return {name: value for name, value in row.items() if name not in dropped} | values


def _add(row: Document, body: Document, score: float, score_name: str) -> Document:
    return row | _metas(body, score, score_name)


def _metas(body: Document, score: float, score_name: str) -> Document:
    metas = {name: value["$meta"] for name, value in body.items() if isinstance(value, dict)}
    for meta in metas.values():
        if meta != score_name:
            message = f"query requires {meta} metadata, but it is not available"
            raise CommandError(40218, "Location40218", message)
    return dict.fromkeys(metas, score)


def _group(rows: list[Document], body: Document) -> list[Document]:
    key = body["_id"].removeprefix("$")
    (name,) = set(body) - {"_id"}
    counts: Counter[Any] = Counter(row[key] for row in rows)
    return [{"_id": value, name: count} for value, count in counts.items()]


async def serve(port: int, behind: str, *, build_s: float = 0.2) -> None:
    """Serve on a port of loopback until cancelled."""
    client: AsyncMongoClient[Document] = AsyncMongoClient(behind, retryWrites=False)
    double = SearchDouble(client, build_s=build_s)
    address = urlsplit(behind)

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(address.hostname, address.port)
        with closing(writer), closing(server_writer):
            back = asyncio.create_task(_pump(server_reader, writer))
            try:
                while (message := await read_message(reader)) is not None:
                    answer = await double.answer(message)
                    target = server_writer if answer is None else writer
                    target.write(message if answer is None else answer_to(message, answer))
                    await target.drain()
            finally:
                back.cancel()

    async with client, await asyncio.start_server(connection, "127.0.0.1", port) as server:
        await server.serve_forever()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(1 << 16):
        writer.write(block)
        await writer.drain()
    writer.close()


class SearchServer(OwnServer):
    """The double in a process of its own."""

    def __init__(self, folder: Path, port: int, behind: str) -> None:
        """Store its folder, its port, and the address of the server behind."""
        self.url = f"mongodb://127.0.0.1:{port}"
        self.address = ("127.0.0.1", port)
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(
            [sys.executable, "-m", "tests.servers.mongo_search", str(port), behind],
            folder=Path(__file__).parents[2],
            log=folder / "search.log",
            environment=dict(os.environ),
        )


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
