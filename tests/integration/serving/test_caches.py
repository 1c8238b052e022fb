"""Caches of the serving plane, over HTTP, with a real database and a real Redis."""

import asyncio
import time
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
from planes.shared.stores.redis_caches import CacheEntry, RedisCaches
from planes.shared.stores.redis_clients import redis_client
from planes.shared.stores.redis_memory import RedisMemory
from planes.shared.wire import Done, ServingTokens
from services.embedded.ports import free_port
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
        self.token_secret = TOKEN_SECRET
        self.client: httpx.AsyncClient

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.embedded += texts
        return self.library.embedder.embed(texts)

    @asynccontextmanager
    async def running(self, **settings: object) -> AsyncIterator["Plane"]:
        values = {"generator": "extractive", "token_secret": self.token_secret, **settings}
        chosen = ServingSettings(database_url=self.library.urls["serving"], **values)
        app = create_app(build_plane(chosen, lambda _: self.embed))
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
        response = await self.client.post("/v1/answer", json=body, headers=self._headers(tenant_id))
        assert response.status_code == 200, response.text
        events = events_of(response.text)
        assert events[0][2]["id"] == body["answer_id"]
        return events

    async def search(self, tenant_id: UUID, query: str, **scope: object) -> dict[str, Any]:
        version = await self.corpus_version(tenant_id)
        given = {"generation": 1, "corpus_version": version, **scope}
        response = await self.client.post(
            "/v1/search", json={"query": query, "scope": given}, headers=self._headers(tenant_id)
        )
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def _headers(self, tenant_id: UUID) -> dict[str, str]:
        tokens = ServingTokens(self.token_secret)
        token = tokens.mint(TenantContext(tenant_id, tenant_id), "request-1")
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


async def test_tenants_never_share_an_answer(
    plane: Plane, library: Library, tenant: UUID, redis: Client
) -> None:
    globex = await library.add_tenant()
    await library.add_document(globex, "own.txt", ["The old harbour of Leith was opened in 1777."])
    assert not is_cached(await plane.ask(tenant, OPENED))
    other = await plane.ask(globex, OPENED)
    assert not is_cached(other)
    assert "1777" in other[-1][2]["content"]
    assert "1901" in (await plane.ask(tenant, OPENED))[-1][2]["content"]
    # nor where an entry of one were laid under the key of the other
    (own,) = await redis.keys(f"cache:{{{tenant}}}:passages:*")
    await redis.delete(*await redis.keys(f"cache:{{{globex}}}:answer:*"))
    (foreign,) = await redis.keys(f"cache:{{{globex}}}:passages:*")
    await redis.set(foreign, await redis.get(own) or b"", ex=60)
    assert "1777" in (await plane.ask(globex, OPENED))[-1][2]["content"]


async def test_keys_tell_nothing_of_what_was_asked(
    plane: Plane, tenant: UUID, redis: Client
) -> None:
    await plane.ask(tenant, OPENED)
    keys = await redis.keys(f"cache:{{{tenant}}}:*")
    assert {key.split(b":")[2] for key in keys} == {b"answer", b"passages", b"index"}
    assert all(len(key.split(b":")[-1]) == 64 for key in keys if not key.endswith(b":index"))
    assert all([0 < await redis.ttl(key) <= 3600 for key in keys])


@pytest.mark.parametrize(
    "change",
    [
        {"message": f"{OPENED} "},
        {"top_k": 4},
        {"max_tokens": 100},
        {"max_prompt_tokens": 1000},
        {"history": [{"role": "user", "content": "Tell me of Leith."}]},
        {"scope": {"hidden_versions": [str(uuid4())]}},
        {"scope": {"document_ids": [str(uuid4())]}},
        {"scope": {"corpus_version": 0}},
        {"scope": {"corpus_version": None}},
    ],
)
async def test_another_request_is_another_answer(
    plane: Plane, tenant: UUID, change: dict[str, Any]
) -> None:
    await plane.ask(tenant, OPENED)
    assert not is_cached(await plane.ask(tenant, **{"message": OPENED, **change}))


async def test_the_order_of_what_is_a_set_makes_no_difference(plane: Plane, tenant: UUID) -> None:
    ids = [str(uuid4()), str(uuid4())]
    await plane.ask(tenant, OPENED, {"hidden_versions": ids})
    assert is_cached(await plane.ask(tenant, OPENED, {"hidden_versions": ids[::-1]}))


async def test_a_published_document_makes_what_was_cached_unreachable(
    plane: Plane, library: Library, tenant: UUID
) -> None:
    question = "How deep is the dry dock of Leith?"
    await plane.ask(tenant, question)
    assert is_cached(await plane.ask(tenant, question))
    await library.add_document(tenant, "dock.txt", ["The dry dock of Leith is nine metres deep."])
    answer = await plane.ask(tenant, question)
    assert not is_cached(answer)
    assert "nine metres" in answer[-1][2]["content"]


async def test_an_answer_that_cites_a_deleted_document_is_not_told_again(
    plane: Plane, library: Library, tenant: UUID
) -> None:
    """The request was let in before the deletion, and is answered after it."""
    first = await plane.ask(tenant, OPENED)
    found = await plane.search(tenant, OPENED)
    assert found["passages"]
    await library.tombstone(UUID(first[-1][2]["citations"][0]["document_id"]))
    assert (await plane.search(tenant, OPENED))["passages"] == []
    again = await plane.ask(tenant, OPENED)
    assert not is_cached(again)
    assert again[-1][2]["finish_reason"] == "declined"


async def test_a_quote_that_the_index_does_not_hold_is_not_told_again(
    plane: Plane, library: Library, tenant: UUID
) -> None:
    await plane.ask(tenant, OPENED)
    owner = await asyncpg.connect(library.urls["admin"])
    await owner.execute("UPDATE chunks_g1 SET body = replace(body, '1901', '1902')")
    await owner.close()
    assert not is_cached(await plane.ask(tenant, OPENED))


async def test_a_version_that_is_hidden_is_not_cited_from_the_cache(
    plane: Plane, library: Library, tenant: UUID
) -> None:
    _, version = await library.add_document(tenant, "copy.txt", [HARBOUR[0]])
    scope = {"hidden_versions": [str(version)]}
    await plane.ask(tenant, OPENED)
    again = await plane.ask(tenant, OPENED, scope)
    assert not is_cached(again)
    assert {cited["document_name"] for cited in again[-1][2]["citations"]} == {"harbour.txt"}


async def test_a_fresh_answer_takes_the_place_of_the_cached_one(plane: Plane, tenant: UUID) -> None:
    await plane.ask(tenant, OPENED)
    assert not is_cached(await plane.ask(tenant, OPENED, fresh=True))
    assert is_cached(await plane.ask(tenant, OPENED))


async def test_a_declined_question_is_declined_again(plane: Plane, tenant: UUID) -> None:
    question = "Which enzyme splits lactose?"
    first, again = await plane.ask(tenant, question), await plane.ask(tenant, question)
    assert is_cached(again)
    assert told(again) == told(first)
    assert again[-1][2]["finish_reason"] == "declined"


async def test_answers_are_not_cached_where_that_is_off(
    library: Library, redis_server: Redis, tenant: UUID
) -> None:
    url = redis_server.serving_url()
    async with Plane(library).running(redis_url=url, cache_answers="off") as plane:
        first, again = await plane.ask(tenant, OPENED), await plane.ask(tenant, OPENED)
        assert not is_cached(again)
        assert told(again) == told(first)
        assert {"cache": "retrieval", "is_hit": True} in again[-1][2]["caches"]


async def test_a_plane_that_answers_in_another_way_finds_nothing(
    plane: Plane, library: Library, redis_server: Redis, tenant: UUID
) -> None:
    await plane.ask(tenant, OPENED)
    url = redis_server.serving_url()
    stranger = Plane(library)
    stranger.token_secret = TOKEN_SECRET[::-1]
    async with stranger.running(redis_url=url):
        assert not is_cached(await stranger.ask(tenant, OPENED))
    async with Plane(library).running(redis_url=url, embedder_threads=2) as changed:
        assert not is_cached(await changed.ask(tenant, OPENED))
    async with Plane(library).running(redis_url=url) as same:
        assert is_cached(await same.ask(tenant, OPENED))


async def test_a_question_is_embedded_once_for_its_tenant(library: Library, tenant: UUID) -> None:
    globex = await library.add_tenant()
    async with Plane(library).running() as plane:
        for _ in range(3):
            await plane.search(tenant, OPENED)
        assert plane.embedded.count(OPENED) == 1
        await plane.search(globex, OPENED)
        assert plane.embedded.count(OPENED) == 2
    async with Plane(library).running(cache_embeddings_bytes=0) as plane:
        await plane.search(tenant, OPENED)
        await plane.search(tenant, OPENED)
        assert plane.embedded.count(OPENED) == 2


async def test_of_a_known_passage_the_question_alone_is_embedded(
    library: Library, tenant: UUID
) -> None:
    async with Plane(library).running() as plane:
        first = await plane.ask(tenant, OPENED)
        again = f"{OPENED} And by whom?"
        plane.embedded.clear()
        second = await plane.ask(tenant, again)
        assert plane.embedded == [again]
        assert first[-1][2]["citations"]
        assert second[-1][2]["citations"]
        assert {"cache": "embedding", "is_hit": False} in second[-1][2]["caches"]
        assert {"cache": "embedding", "is_hit": True} not in second[-1][2]["caches"]
    async with Plane(library).running(cache_sentences_bytes=0) as plane:
        await plane.ask(tenant, OPENED)
        plane.embedded.clear()
        await plane.ask(tenant, again)
        assert len(plane.embedded) > 1


async def test_without_a_share_of_redis_nothing_is_kept_there(
    library: Library, redis_server: Redis, redis: Client, tenant: UUID
) -> None:
    settings = {"redis_url": redis_server.serving_url(), "cache_redis_bytes": 0}
    async with Plane(library).running(**settings) as plane:
        for _ in range(2):
            assert not is_cached(await plane.ask(tenant, OPENED))
    assert not await redis.keys(f"cache:{{{tenant}}}:*")


async def test_a_replica_keeps_no_more_than_its_share(
    library: Library, redis_server: Redis, redis: Client, tenant: UUID
) -> None:
    settings = {"redis_url": redis_server.serving_url(), "cache_redis_bytes": 6000}
    async with Plane(library).running(**settings) as plane:
        for number in range(8):
            await plane.search(tenant, f"{OPENED} {number}")
        keys = await redis.keys(f"cache:{{{tenant}}}:passages:*")
        assert 0 < sum([await redis.strlen(key) for key in keys]) <= 6000
        assert await redis.zcard(f"cache:{{{tenant}}}:index") == len(keys)
        assert {"cache": "retrieval", "is_hit": True} in (
            await plane.search(tenant, f"{OPENED} 7")
        )["caches"]


async def test_a_deletion_finds_entries_also_where_newer_ones_end_sooner(
    redis_server: Redis,
) -> None:
    caches, tenant_id = RedisCaches(redis_client(redis_server.serving_url())), uuid4()
    try:
        for digest, ttl_s in (("a", 60), ("b", 1)):
            entry = CacheEntry(tenant_id, 1, "answer", digest, b"told")
            assert await caches.put(entry, ttl_s=ttl_s)
        await asyncio.sleep(1.1)  # the time that Redis counts
        assert await caches.seal(tenant_id, 2) == [f"cache:{{{tenant_id}}}:answer:a"]
    finally:
        await caches.close()


async def test_a_deletion_removes_what_planes_of_before_have_kept(
    redis_server: Redis, redis: Client
) -> None:
    caches, tenant_id = RedisCaches(redis_client(redis_server.serving_url())), uuid4()
    try:
        old = f"cache:{tenant_id}:answer:a"
        await redis.set(old, b"quotes the document", ex=60)
        await redis.zadd(f"cache:{tenant_id}:index", {old: time.time() + 60})
        new = CacheEntry(tenant_id, 1, "answer", "a", b"quotes it too")
        assert await caches.put(new, ttl_s=60)
        found = await caches.seal(tenant_id, 2)
        assert sorted(found) == sorted([old, new.key])
        assert await redis.get(f"cache:{tenant_id}:floor") == b"2", "they keep no more of it"
        assert await caches.remove(tenant_id, found) == 2
        assert await caches.remove(tenant_id, found) == 0
        assert await redis.zcard(f"cache:{tenant_id}:index") == 0
    finally:
        await caches.close()


async def test_a_redis_that_fills_up_is_left_to_those_who_cannot_do_without(
    plane: Plane, tenant: UUID, redis: Client
) -> None:
    used = (await redis.info("memory"))["used_memory"]
    await redis.config_set("maxmemory", used * 2)
    try:
        await plane.ask(tenant, OPENED)
        assert not await redis.keys(f"cache:{{{tenant}}}:*")
    finally:
        await redis.config_set("maxmemory", "256mb")


async def test_a_redis_that_does_not_show_its_memory_counts_as_empty(
    redis: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = ["+@all", "-info"]
    await redis.acl_setuser("blind", enabled=True, nopass=True, keys=["*"], commands=commands)
    port = redis.connection_pool.connection_kwargs["port"]
    blind = Client(port=port, username="blind", password="any")
    try:
        memory = RedisMemory(blind)
        assert [await memory.used_share() for _ in range(3)] == [0.0, 0.0, 0.0]
    finally:
        await blind.aclose()
        await redis.acl_deluser("blind")
    assert capsys.readouterr().out.count("+info") == 1


async def test_without_redis_every_question_is_answered_and_one_line_is_logged(
    library: Library, tenant: UUID, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"redis://serving:password@127.0.0.1:{free_port()}/0"
    async with Plane(library).running(redis_url=url) as plane:
        for _ in range(3):
            answer = await plane.ask(tenant, OPENED)
            assert answer[-1][1] == "done"
            assert not is_cached(answer)
    assert capsys.readouterr().out.count("caches do not answer") == 1


async def test_what_is_no_entry_is_not_told(plane: Plane, tenant: UUID, redis: Client) -> None:
    first = await plane.ask(tenant, OPENED)
    for key in await redis.keys(f"cache:{{{tenant}}}:*"):
        if not key.endswith(b":index"):
            await redis.set(key, b'{"told": 1}', ex=60)
    again = await plane.ask(tenant, OPENED)
    assert not is_cached(again)
    assert told(again) == told(first)


async def test_caches_that_come_back_are_used_again(
    library: Library, redis_server: Redis, redis: Client, tenant: UUID
) -> None:
    async with Plane(library).running(redis_url=redis_server.serving_url()) as plane:
        await redis.execute_command("ACL", "SETUSER", "serving", "off")
        await redis.client_kill_filter(user="serving")
        try:
            first = await plane.ask(tenant, OPENED)
            assert first[-1][1] == "done"
        finally:
            await redis.execute_command("ACL", "SETUSER", "serving", "on")
        async with asyncio.timeout(30):
            while not is_cached(await plane.ask(tenant, OPENED)):
                await asyncio.sleep(0.2)
