import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from uuid import UUID, uuid4

import asyncpg
import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from planes.serving.http import create_app
from planes.serving.plane import build_plane
from planes.serving.settings import ServingSettings
from planes.shared.domain import TenantContext
from planes.shared.embedding import MiniLMEmbedder, Vectors
from planes.shared.errors import Unavailable
from planes.shared.wire import Done, EmbedResponse, SearchResponse, ServingHealth, ServingTokens
from services.embedded.ports import free_port
from tests.fakes_serving import TOKEN_SECRET, Library, embedding_in_process, events_of

pytestmark = pytest.mark.integration

HARBOUR = [
    "The old harbour of Leith was opened in 1901 by the queen. It has four cranes.",
    "Ferries to the islands leave every hour. A ticket costs four pounds.",
]
SECRET = ["The launch code of Globex is swordfish. It opens the harbour of Leith."]


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@pytest.fixture
def library(database_urls: Mapping[str, str], embedder: MiniLMEmbedder) -> Library:
    return Library(database_urls, embedder)


@pytest.fixture
def app(
    database_urls: Mapping[str, str], embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> FastAPI:
    monkeypatch.setenv("DATABASE_URL", database_urls["serving"])
    monkeypatch.setenv("SERVING_TOKEN_SECRET", TOKEN_SECRET)
    settings = ServingSettings(generator="extractive", reranker_deadline_s=60)
    return create_app(build_plane(settings, lambda _: embedding_in_process(embedder)))


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(app) as client:
        yield client


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://plane") as client,
    ):
        yield client


def headers(tenant_id: UUID) -> dict[str, str]:
    token = ServingTokens(TOKEN_SECRET).mint(TenantContext(tenant_id, tenant_id), "request-1")
    return {"authorization": f"Bearer {token}", "x-polyplane-wire": "1"}


def question(message: str, **changes: object) -> dict[str, object]:
    ids = {name: str(uuid4()) for name in ("answer_id", "message_id", "conversation_id")}
    return {
        **ids,
        "message": message,
        "scope": {"generation": 1},
        "max_prompt_tokens": 2000,
        "max_tokens": 200,
        **changes,
    }


async def search(
    client: httpx.AsyncClient, tenant_id: UUID, query: str, **scope: object
) -> list[str]:
    body = {"query": query, "scope": {"generation": 1, **scope}}
    response = await client.post("/v1/search", json=body, headers=headers(tenant_id))
    assert response.status_code == 200, response.text
    return [passage.text for passage in SearchResponse.model_validate(response.json()).passages]


async def test_an_answer_quotes_the_document_it_cites(
    client: httpx.AsyncClient, library: Library
) -> None:
    tenant = await library.add_tenant()
    document, _ = await library.add_document(tenant, "harbour.txt", HARBOUR)
    body = question("When was the old harbour of Leith opened?")
    response = await client.post("/v1/answer", json=body, headers=headers(tenant))
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    assert [name for _, name, _ in events][:2] == ["meta", "step"]
    done = Done.model_validate(events[-1][2])
    (citation,) = done.citations
    assert (citation.document_id, citation.document_name) == (document, "harbour.txt")
    assert "\n\n".join(HARBOUR)[citation.start : citation.end] == citation.quote
    assert "1901" in done.content
    assert done.grounded
    assert done.model == "extractive"


async def test_an_answer_does_not_wait_for_the_order_of_its_passages(
    library: Library, embedder: MiniLMEmbedder, app: FastAPI
) -> None:
    del app  # its settings stand in the environment
    is_stuck = True

    async def embed(texts: Sequence[str]) -> Vectors:
        nonlocal is_stuck
        if is_stuck and len(texts) > 1:  # the sentences that the order is made by
            is_stuck = False
            await asyncio.Event().wait()
        return embedder.embed(texts)

    tenant = await library.add_tenant()
    await library.add_document(tenant, "harbour.txt", HARBOUR)
    settings = ServingSettings(generator="extractive", reranker_deadline_s=0.2)
    async with client_of(create_app(build_plane(settings, lambda _: embed))) as client:
        body = question("When was the old harbour of Leith opened?")
        response = await client.post("/v1/answer", json=body, headers=headers(tenant))
        events = events_of(response.text)
        assert {"name": "rerank", "detail": "late"} in [data for _, _, data in events]
        done = Done.model_validate(events[-1][2])
        assert "1901" in done.content
        assert done.citations
        found = await search(client, tenant, "When was the old harbour of Leith opened?")
        assert found == HARBOUR


async def test_search_never_returns_another_tenants_chunk(
    client: httpx.AsyncClient, library: Library
) -> None:
    acme, globex = await library.add_tenant(), await library.add_tenant()
    await library.add_document(acme, "harbour.txt", HARBOUR)
    document, version = await library.add_document(globex, "secret.txt", SECRET)
    assert not set(await search(client, acme, "launch code of Globex")) & set(SECRET)
    assert await search(client, acme, "launch code", document_ids=[str(document)]) == []
    assert set(await search(client, globex, "launch code of Globex")) == set(SECRET)
    assert version is not None


async def test_texts_are_embedded_as_search_embeds_them(
    client: httpx.AsyncClient, embedder: MiniLMEmbedder
) -> None:
    texts = [f"The harbour has {number} cranes." for number in range(20)]
    body = {"texts": texts, "max_tokens": 512}
    response = await client.post("/v1/embed", json=body, headers=headers(uuid4()))
    told = EmbedResponse.model_validate(response.json())
    vectors = [np.frombuffer(b64decode(vector), "<f4") for vector in told.vectors]
    np.testing.assert_allclose(vectors, embedder.embed(texts), atol=0.01)
    assert told.tokens == 20 * 8, "six words or marks, and two special tokens"


async def test_a_text_is_truncated_only_where_that_is_asked_for(
    client: httpx.AsyncClient,
) -> None:
    body = {"texts": ["short", "word " * 300], "max_tokens": 512}
    refused = await client.post("/v1/embed", json=body, headers=headers(uuid4()))
    assert refused.status_code == 422
    assert "Text 1 has 302 tokens, and the model reads 256" in refused.json()["detail"]
    body["truncate"] = True
    response = await client.post("/v1/embed", json=body, headers=headers(uuid4()))
    assert response.json()["tokens"] == 3 + 256
    body["max_tokens"] = 100  # so many are paid for
    response = await client.post("/v1/embed", json=body, headers=headers(uuid4()))
    assert response.json()["tokens"] == 3 + 100


async def test_an_answer_never_draws_on_another_tenants_documents(
    client: httpx.AsyncClient, library: Library
) -> None:
    acme, globex = await library.add_tenant(), await library.add_tenant()
    await library.add_document(acme, "harbour.txt", HARBOUR)
    await library.add_document(globex, "secret.txt", SECRET)
    body = question("What is the launch code of Globex?")
    response = await client.post("/v1/answer", json=body, headers=headers(acme))
    assert "swordfish" not in response.text
    assert Done.model_validate(events_of(response.text)[-1][2]).finish_reason == "declined"


async def test_hidden_versions_and_deleted_documents_are_not_found(
    client: httpx.AsyncClient, library: Library
) -> None:
    tenant = await library.add_tenant()
    document, version = await library.add_document(tenant, "harbour.txt", HARBOUR)
    assert len(await search(client, tenant, "harbour")) == 2
    assert await search(client, tenant, "harbour", hidden_versions=[str(version)]) == []
    await library.tombstone(document)
    assert await search(client, tenant, "harbour") == []


@pytest.mark.parametrize("visibility", ["none", "hidden", "gone"])
async def test_only_chunks_of_live_versions_are_found(
    client: httpx.AsyncClient,
    library: Library,
    database_urls: Mapping[str, str],
    visibility: str,
) -> None:
    tenant = await library.add_tenant()
    _, version = await library.add_document(tenant, "harbour.txt", HARBOUR)
    assert len(await search(client, tenant, "harbour")) == 2
    owner = await asyncpg.connect(database_urls["admin"])
    change = "UPDATE document_versions SET visibility = $2 WHERE id = $1"
    await owner.execute(change, version, visibility)
    await owner.close()
    assert await search(client, tenant, "harbour") == []


async def test_a_tenant_without_documents_is_told_that_nothing_was_found(
    client: httpx.AsyncClient, library: Library
) -> None:
    tenant = await library.add_tenant()
    response = await client.post("/v1/answer", json=question("Why?"), headers=headers(tenant))
    done = Done.model_validate(events_of(response.text)[-1][2])
    assert (done.finish_reason, done.grounded, done.citations) == ("declined", False, ())


async def test_open_chat_without_a_language_model_is_refused_before_the_first_byte(
    client: httpx.AsyncClient,
) -> None:
    body = question("Hello?", mode="open")
    response = await client.post("/v1/answer", json=body, headers=headers(uuid4()))
    assert response.status_code == 503
    assert response.json()["code"] == "no-language-model"


async def test_where_there_is_no_place_an_answer_is_refused_before_the_first_byte(
    app: FastAPI, client: httpx.AsyncClient
) -> None:
    with ExitStack() as places:
        for _ in range(500):
            places.enter_context(app.state.plane.admission.place())
        response = await client.post("/v1/answer", json=question("Why?"), headers=headers(uuid4()))
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    response = await client.post("/v1/answer", json=question("Why?"), headers=headers(uuid4()))
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/v1/answer", "/v1/search"])
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer x.y.z"}, 401),
        ({"x-polyplane-wire": "2"}, 400),
    ],
)
async def test_only_the_gateway_is_let_in(
    client: httpx.AsyncClient, path: str, changed: dict[str, str], status: int
) -> None:
    sent = headers(uuid4()) | changed
    response = await client.post(path, json=question("Why?"), headers=sent)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert set(response.json()) == {"code", "title", "status", "detail", "is_permanent"}


async def test_a_request_that_does_not_fit_the_wire_names_its_fields(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post("/v1/search", json={"query": "x"}, headers=headers(uuid4()))
    assert response.status_code == 422
    assert "body.scope" in response.json()["detail"]


async def test_health_names_each_part(client: httpx.AsyncClient) -> None:
    health = ServingHealth.model_validate((await client.get("/v1/health")).json())
    assert health.status == "ok"
    assert health.parts == {"database": "ok", "chunks": "ok", "embedder": "ok", "generator": "ok"}
    assert health.generator.kind == "extractive"


async def test_health_shows_whose_plane_it_is_to_who_sends_a_token(
    client: httpx.AsyncClient,
) -> None:
    sent = headers(uuid4())
    assert (await client.get("/v1/health", headers=sent)).status_code == 200
    stranger = {**sent, "authorization": f"Bearer {ServingTokens('x' * 32).mint_for_health()}"}
    assert (await client.get("/v1/health", headers=stranger)).status_code == 401


async def test_health_tells_which_part_is_down_and_answers_say_unavailable(
    client: httpx.AsyncClient, embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise Unavailable("The embedder does not answer.")

    monkeypatch.setattr(embedder, "embed", broken)
    response = await client.get("/v1/health")
    assert response.status_code == 503
    parts = response.json()["parts"]
    assert parts == {
        "database": "ok",
        "chunks": "ok",
        "embedder": "unavailable",
        "generator": "unavailable",
    }
    response = await client.post("/v1/answer", json=question("Why?"), headers=headers(uuid4()))
    _, name, problem = events_of(response.text)[-1]
    assert (name, problem["code"], problem["status"]) == ("error", "unavailable", 503)


async def test_without_its_language_model_the_plane_is_degraded(
    database_urls: Mapping[str, str], embedder: MiniLMEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_urls["serving"])
    monkeypatch.setenv("SERVING_TOKEN_SECRET", TOKEN_SECRET)
    address = f"http://127.0.0.1:{free_port()}/v1"
    settings = ServingSettings(openai_base_url=address, openai_model="llama")
    plane = build_plane(settings, lambda _: embedding_in_process(embedder))
    await plane.open()
    health = await plane.health()
    await plane.close()
    assert health.status == "degraded"
    assert health.parts == {
        "database": "ok",
        "chunks": "ok",
        "embedder": "ok",
        "generator": "unavailable",
    }


async def test_many_questions_at_once_are_answered_each_for_its_own_tenant(
    client: httpx.AsyncClient, library: Library
) -> None:
    tenants = [await library.add_tenant() for _ in range(3)]
    for number, tenant in enumerate(tenants):
        await library.add_document(tenant, f"{number}.txt", [f"The harbour has {number} cranes."])
    found = await asyncio.gather(
        *(search(client, tenant, "How many cranes has the harbour?") for tenant in tenants * 5)
    )
    assert found == [[f"The harbour has {number} cranes."] for number in range(3)] * 5
