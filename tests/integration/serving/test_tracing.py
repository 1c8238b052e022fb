"""Spans of answers, as a collector gets them."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from planes.serving.http import create_app
from planes.serving.plane import Plane, build_plane
from planes.serving.settings import ServingSettings
from planes.shared.domain import TenantContext
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.errors import Unavailable
from planes.shared.wire import ServingTokens
from services.embedded.ports import free_port
from tests.fakes_serving import TOKEN_SECRET, Library, embedding_in_process, events_of
from tests.servers.collector import Collector, attributes_of

pytestmark = pytest.mark.integration
TEXT = "The old harbour of Leith was opened in 1901 by the queen. It has four cranes."
QUESTION = "When was the old harbour of Leith opened?"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def embedder() -> MiniLMEmbedder:
    return MiniLMEmbedder()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector().running() as collector:
        yield collector


@pytest.fixture
def library(database_urls: Mapping[str, str], embedder: MiniLMEmbedder) -> Library:
    return Library(database_urls, embedder)


@asynccontextmanager
async def running(library: Library, address: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A plane; once it is closed, all its spans were sent."""
    async with served(plane_of(library, address)) as client:
        yield client


def plane_of(library: Library, address: str | None) -> Plane:
    settings = ServingSettings(
        database_url=library.urls["serving"],
        token_secret=TOKEN_SECRET,
        generator="extractive",
        otlp_endpoint=address,
    )
    return build_plane(settings, lambda _: embedding_in_process(library.embedder))


@asynccontextmanager
async def served(plane: Plane) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(plane)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://plane") as client,
    ):
        yield client


async def ask(client: httpx.AsyncClient, tenant_id: UUID, *, sampled: str = "01") -> str:
    """Ask, and return the name of the last event."""
    token = ServingTokens(TOKEN_SECRET).mint(TenantContext(tenant_id, tenant_id), "request-1")
    headers = {
        "authorization": f"Bearer {token}",
        "x-polyplane-wire": "1",
        "traceparent": f"00-{TRACE}-{CALLER}-{sampled}",
    }
    body = {
        **{name: str(uuid4()) for name in ("answer_id", "message_id", "conversation_id")},
        "message": QUESTION,
        "scope": {"generation": 1},
        "max_prompt_tokens": 2000,
        "max_tokens": 200,
    }
    response = await client.post("/v1/answer", json=body, headers=headers)
    assert response.status_code == 200, response.text
    return str(events_of(response.text)[-1][1])


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


async def test_each_step_of_an_answer_is_a_span_of_its_callers_trace(
    collector: Collector, library: Library
) -> None:
    tenant = await library.add_tenant()
    await library.add_document(tenant, "harbour.txt", [TEXT])
    async with running(library, collector.address) as client:
        assert await ask(client, tenant) == "done"
    spans = by_name(collector.spans)
    answer = spans.pop("answer")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert answer.parent_span_id.hex() == CALLER
    inner = {name: spans.pop(name) for name in ("embed", "arms", "rerank")}
    steps = ["window", "route", "retrieve", "judge", "generate", "verify"]
    assert sorted(spans, key=lambda name: spans[name].start_time_unix_nano) == steps
    assert {span.parent_span_id for span in spans.values()} == {answer.span_id}
    assert {span.parent_span_id for span in inner.values()} == {spans["retrieve"].span_id}


async def test_spans_hold_counts_and_ids_but_no_text(
    collector: Collector, library: Library
) -> None:
    tenant = await library.add_tenant()
    await library.add_document(tenant, "harbour.txt", [TEXT])
    async with running(library, collector.address) as client:
        await ask(client, tenant)
    spans = by_name(collector.spans)
    answer = attributes_of(spans["answer"])
    assert answer["polyplane.tenant_id"] == str(tenant)
    assert answer["polyplane.model"] == "extractive"
    assert answer["polyplane.citations"] == 1
    assert (
        answer["polyplane.completion_tokens"]
        == (attributes_of(spans["generate"])["polyplane.completion_tokens"])
    )
    assert attributes_of(spans["arms"])["polyplane.lexical"] == 1
    assert attributes_of(spans["judge"])["polyplane.next"] == "generate"
    for word in (b"Leith", b"opened", b"harbour", b"1901", TOKEN_SECRET.encode(), b"eyJ"):
        assert word not in collector.received


async def test_an_answer_that_nobody_above_records_begins_the_trace(
    collector: Collector, library: Library
) -> None:
    async with running(library, collector.address) as client:
        await ask(client, await library.add_tenant(), sampled="00")
    answer = by_name(collector.spans)["answer"]
    assert (answer.trace_id.hex(), answer.parent_span_id) == (TRACE, b"")


async def test_a_step_that_fails_is_told_by_its_code(
    collector: Collector, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise Unavailable(f"No vector of {QUESTION}")

    tenant = await library.add_tenant()
    async with running(library, collector.address) as client:
        monkeypatch.setattr(library.embedder, "embed", broken)
        assert await ask(client, tenant) == "error"
    spans = by_name(collector.spans)
    for name in ("embed", "retrieve", "answer"):
        status = spans[name].status
        assert (status.code, status.message) == (Status.STATUS_CODE_ERROR, "unavailable")
    assert b"Leith" not in collector.received


async def test_a_drain_sends_what_waits(collector: Collector, library: Library) -> None:
    plane = plane_of(library, collector.address)
    async with served(plane) as client:
        await ask(client, await library.add_tenant())
        await plane.drain(5)
        assert "answer" in by_name(collector.spans)


@pytest.mark.parametrize("has_address", [True, False])
async def test_answers_need_no_collector(library: Library, has_address: bool) -> None:
    address = f"http://127.0.0.1:{free_port()}" if has_address else None
    async with running(library, address) as client:
        assert await ask(client, await library.add_tenant()) == "done"
