"""Caches of the serving plane, over HTTP, with a real database and a real Redis."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from redis.asyncio import Redis as Client

from planes.serving.http import create_app
from planes.serving.plane import build_plane
from planes.serving.settings import ServingSettings
from planes.shared.domain import TenantContext
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.wire import Done, ServingTokens
from services.embedded.redis import Redis
from tests.fakes_serving import TOKEN_SECRET, Library, events_of

pytestmark = pytest.mark.integration
HARBOUR = [
    "The old harbour of Leith was opened in 1901 by the queen. It has four cranes.",
    "Ferries to the islands leave every hour. A ticket costs four pounds.",
]
OPENED = "When was the old harbour of Leith opened?"
Events = list[tuple[int, str, dict[str, Any]]]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@pytest.fixture
def library(database_urls: Mapping[str, str], embedder: MiniLMEmbedder) -> Library:
    return Library(database_urls, embedder)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    """All of Redis, as the gateway has it."""
    async with Client.from_url(redis_url) as client:
        yield client


class Plane:
    """A serving plane as its callers see it, and what its embedder was asked."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.embedded: list[str] = []
        self.client: httpx.AsyncClient

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        return self.library.embedder.embed(texts)

    @asynccontextmanager
    async def running(self, **settings: object) -> AsyncIterator["Plane"]:
        values = {"generator": "extractive", "token_secret": TOKEN_SECRET, **settings}
        chosen = ServingSettings(database_url=self.library.urls["serving"], **values)
        app = create_app(build_plane(chosen, self.embed))
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://plane") as self.client,
        ):
            yield self

    async def corpus_version(self, tenant_id: UUID) -> int:
        owner = await asyncpg.connect(self.library.urls["admin"])
        version: int = await owner.fetchval(
            "SELECT corpus_version FROM tenants WHERE id = $1", tenant_id
        )
        await owner.close()
        return version

    async def ask(
        self,
        tenant_id: UUID,
        message: str,
        scope: Mapping[str, object] | None = None,
        **changes: Any,
    ) -> Events:
        version = await self.corpus_version(tenant_id)
        body = {
            **{name: str(uuid4()) for name in ("answer_id", "message_id", "conversation_id")},
            "message": message,
            "scope": {"generation": 1, "corpus_version": version, **(scope or {})},
            "max_prompt_tokens": 2000,
            "max_tokens": 200,
            **changes,
        }
        response = await self.client.post("/v1/answer", json=body, headers=headers(tenant_id))
        assert response.status_code == 200, response.text
        events = events_of(response.text)
        assert events[0][2]["id"] == body["answer_id"]
        return events

    async def search(self, tenant_id: UUID, query: str, **scope: object) -> dict[str, Any]:
        version = await self.corpus_version(tenant_id)
        given = {"generation": 1, "corpus_version": version, **scope}
        response = await self.client.post(
            "/v1/search", json={"query": query, "scope": given}, headers=headers(tenant_id)
        )
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found


def headers(tenant_id: UUID) -> dict[str, str]:
    token = ServingTokens(TOKEN_SECRET).mint(TenantContext(tenant_id, tenant_id), "request-1")
    return {"authorization": f"Bearer {token}", "x-polyplane-wire": "1"}


@pytest.fixture
async def plane(library: Library, redis_server: Redis) -> AsyncIterator[Plane]:
    async with Plane(library).running(redis_url=redis_server.serving_url()) as plane:
        yield plane


@pytest.fixture
async def tenant(library: Library) -> UUID:
    """Acme, with a document about the harbour."""
    tenant = await library.add_tenant()
    await library.add_document(tenant, "harbour.txt", HARBOUR)
    return tenant


def is_cached(events: Events) -> bool:
    steps = [data["name"] for _, name, data in events if name == "step"]
    return steps == ["cache"]


def told(events: Events) -> list[tuple[str, Any]]:
    """What an answer says to its reader: text joined, without steps and what names the request."""
    said: list[tuple[str, Any]] = []
    for _, name, data in events:
        if name == "delta" and said and said[-1][0] == "delta":
            said[-1] = ("delta", said[-1][1] + data["text"])
        elif name == "delta":
            said.append(("delta", data["text"]))
        elif name not in {"meta", "step"}:
            said.append((name, {key: value for key, value in data.items() if key != "caches"}))
    return said


async def test_the_same_question_gets_the_same_answer_from_the_cache(
    plane: Plane, tenant: UUID
) -> None:
    first, again = await plane.ask(tenant, OPENED), await plane.ask(tenant, OPENED)
    assert (is_cached(first), is_cached(again)) == (False, True)
    assert told(again) == told(first)
    assert [name for _, name, _ in again][:2] == ["meta", "step"]
    assert [number for number, _, _ in again] == list(range(1, len(again) + 1))
    done = Done.model_validate(again[-1][2])
    assert done.citations
    assert done.usage.completion_tokens > 0


async def test_the_same_search_is_found_in_the_cache(plane: Plane, tenant: UUID) -> None:
    first, again = await plane.search(tenant, OPENED), await plane.search(tenant, OPENED)
    assert first["passages"] == again["passages"]
    lookups = [(each["cache"], each["is_hit"]) for each in again["caches"]]
    assert ("retrieval", True) in lookups
