"""What the serving plane's tests stand on: indexed documents, a model that says what it is told."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID, uuid4

import asyncpg
import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.requests import Request

from planes.shared.domain import Candidate, Chunk, FinishReason, Passage, chunk_id, new_id
from planes.shared.indexing import indexed_terms
from planes.shared.ports import Generated, Prompt
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks

TOKEN_SECRET = "a secret of the tests, long enough for HS256"
Vectors = NDArray[np.float32]


def chunk(
    text: str,
    *,
    tenant_id: UUID | None = None,
    document_id: UUID | None = None,
    version_id: UUID | None = None,
    ordinal: int = 0,
    start: int = 0,
    page: int | None = None,
    heading: str = "",
) -> Chunk:
    """A chunk of English text that starts at `start` of its document."""
    version = version_id or new_id()
    return Chunk(
        id=chunk_id(version, ordinal),
        tenant_id=tenant_id or new_id(),
        document_id=document_id or new_id(),
        version_id=version,
        ordinal=ordinal,
        start=start,
        end=start + len(text),
        page=page,
        heading=heading,
        text=text,
        language="en",
    )


def candidate(of: Chunk, dense: float | None, lexical: float | None) -> Candidate:
    """What a search says of a chunk."""
    return Candidate(of.id, of.document_id, of.version_id, dense, lexical)


def passage(text: str, *, score: float = 1.0, start: int = 0) -> Passage:
    """A passage of a document called guide.txt, version 1."""
    return Passage(chunk(text, start=start), "guide.txt", 1, score)


class Embeds(Protocol):
    """What turns the texts of chunks into vectors."""

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return a unit vector a text."""
        ...


class Executes(Protocol):
    """A connection to PostgreSQL, or a pool of them."""

    async def execute(self, query: str, *args: Any) -> str:
        """Run a statement."""
        ...


def embedding_in_process(embedder: Embeds) -> Callable[[Sequence[str]], Awaitable[Vectors]]:
    """The embedder deployment's answer, without the deployment."""

    async def embed(texts: Sequence[str]) -> Vectors:
        return embedder.embed(texts)

    return embed


@dataclass
class ScriptedGenerator:
    """A generator that yields the pieces it was given, a token each, and remembers its prompts."""

    pieces: Sequence[str]
    finish_reason: FinishReason | None = FinishReason.STOP
    error: Exception | None = None
    model: str = "scripted"
    prompts: list[Prompt] = field(default_factory=list)
    is_closed: bool = False

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        self.prompts.append(prompt)
        try:
            for count, piece in enumerate(self.pieces, start=1):
                yield Generated(piece, 7, count)
            if self.error is not None:
                raise self.error
            if self.finish_reason is not None:
                yield Generated("", 7, len(self.pieces), self.finish_reason)
        finally:
            self.is_closed = True


async def add_tenant(owner: Executes) -> UUID:
    """Add a tenant as `Library` does, by a connection of the database's owner."""
    tenant = new_id()
    await owner.execute("INSERT INTO tenants (id, name) VALUES ($1, 'acme')", tenant)
    await owner.execute(
        "INSERT INTO users (id, email, email_key, password_hash, display_name) "
        "VALUES ($1, $2, $2, 'x', 'x')",
        tenant,
        f"{tenant}@example.org",
    )
    return tenant


async def register(owner: Executes, name: str, first: Chunk) -> None:
    """Register the document of a chunk and its version, which is being embedded."""
    digest = uuid4().bytes
    await owner.execute(
        "INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id) "
        "VALUES ($1, $2, $2, $3, $4, $5)",
        first.document_id,
        first.tenant_id,
        name,
        digest,
        first.version_id,
    )
    await owner.execute(
        "INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes,"
        " media_type, status, lease_owner) "
        "VALUES ($1, $2, $3, 1, $4, 1, 'text/plain', 'embedding', 'test')",
        first.version_id,
        first.tenant_id,
        first.document_id,
        digest,
    )


async def publish(database: Database, chunks: Sequence[Chunk], vectors: Vectors) -> None:
    """Write all chunks of a registered version, and publish it."""
    tenant, version = chunks[0].tenant_id, chunks[0].version_id
    await PostgresChunks(database).replace_versions(chunks, vectors, generation=1)
    counts = Counter(term for item in chunks for term in set(indexed_terms(item)))
    async with database.tenant(tenant) as connection:
        await connection.execute(
            "INSERT INTO version_terms (version_id, tenant_id, generation, language, chunks, "
            "terms, term_chunks) VALUES ($1, $2, 1, 'en', $3, $4, $5)",
            version,
            tenant,
            len(chunks),
            list(counts),
            list(counts.values()),
        )
        publish_one = "SELECT publish_versions(ARRAY[$1::uuid], 'test')"
        assert await connection.fetchval(publish_one, version) == version


@dataclass
class Library:
    """Documents of tenants in a real database, indexed and published as the data plane does."""

    urls: Mapping[str, str]
    embedder: Embeds

    async def add_tenant(self) -> UUID:
        """A tenant with one user who owns its documents; the user's id is the tenant's."""
        owner = await asyncpg.connect(self.urls["admin"])
        tenant = await add_tenant(owner)
        await owner.close()
        return tenant

    async def add_document(
        self, tenant_id: UUID, name: str, paragraphs: Sequence[str]
    ) -> tuple[UUID, UUID]:
        """Publish a document of one chunk a paragraph; return its id and its version's."""
        document, version = new_id(), new_id()
        chunks, start = [], 0
        for ordinal, text in enumerate(paragraphs):
            chunks.append(
                chunk(
                    text,
                    tenant_id=tenant_id,
                    document_id=document,
                    version_id=version,
                    ordinal=ordinal,
                    start=start,
                )
            )
            start += len(text) + 2
        await self.add_chunks(name, chunks)
        return document, version

    async def add_chunks(self, name: str, chunks: Sequence[Chunk]) -> None:
        """Publish a document that consists of `chunks`."""
        owner = await asyncpg.connect(self.urls["admin"])
        await register(owner, name, chunks[0])
        await owner.close()
        database = Database(self.urls["data"], service="test")
        await database.open()
        await publish(database, chunks, self.embedder.embed([item.text for item in chunks]))
        await database.close()

    async def tombstone(self, document_id: UUID) -> None:
        """Delete a document as the gateway does, before its chunks are gone."""
        owner = await asyncpg.connect(self.urls["admin"])
        await owner.execute("UPDATE documents SET deleted_at = now() WHERE id = $1", document_id)
        await owner.close()


@dataclass
class Reply:
    """What a model's server does with one request: a status, or events, each after a pause."""

    events: Sequence[str] = ()
    status: int = 200
    pause_s: float = 0.0
    breaks_off: bool = False


@dataclass
class ModelServer:
    """A real HTTP server that speaks chat completions as it was told, reply by reply."""

    replies: list[Reply]
    bodies: list[dict[str, Any]] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if request.method == "GET":  # somebody asks whether it is there
            reply = Reply(["{}"])
        else:
            self.bodies.append(await request.json())
            reply = self.replies.pop(0)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        for event in reply.events:
            await asyncio.sleep(reply.pause_s)
            if await request.is_disconnected():
                self.hung_up.set()
                return
            body = f"data: {event}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        if reply.breaks_off:
            raise ConnectionAbortedError("as the test asked")
        await send({"type": "http.response.body", "body": b""})

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[str, None]:
        """Serve on a free port of loopback; yields the base address with its `/v1/`."""
        config = uvicorn.Config(self, port=0, lifespan="off", log_config=None, ws="none")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}/v1/"
        finally:
            server.should_exit = server.force_exit = True
            await serving


def completion_chunk(text: str | None = None, *, finish_reason: str | None = None) -> str:
    """One chunk of a streamed completion."""
    delta = {} if text is None else {"content": text}
    return json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})


def usage_chunk(prompt_tokens: int, completion_tokens: int) -> str:
    """The chunk that `include_usage` adds."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    return json.dumps({"choices": [], "usage": usage})


def events_of(body: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Parse a stream of server-sent events into ids, names and data."""
    parsed = []
    for frame in body.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in frame.split("\n"))
        parsed.append((int(lines["id"]), lines["event"], json.loads(lines["data"])))
    return parsed
