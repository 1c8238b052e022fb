"""Embeddings with OpenAI's client: in both encodings, reserved and billed by the token."""

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import openai as openai_package
import pytest
from openai import AsyncOpenAI, OpenAI
from structlog.testing import capture_logs

from planes.shared.domain import new_id
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.openai.conftest import api_key
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.test_chat import usage_of

pytestmark = pytest.mark.integration
MODEL = "test-embedder"
TEXTS = ["one", "one two", "one two three"]


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> Any:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def test_texts_become_vectors_in_order_and_tokens_are_billed(
    openai: AsyncOpenAI, person: Person, admin: asyncpg.Connection
) -> None:
    answer = await openai.embeddings.create(model=MODEL, input=TEXTS)  # base64 on the wire
    assert [each.embedding for each in answer.data] == [[1.0], [2.0], [3.0]]
    assert [each.index for each in answer.data] == [0, 1, 2]
    assert answer.usage.total_tokens == answer.usage.prompt_tokens == 6
    usage = await usage_of(person)
    assert usage["totals"]["messages"] == 0
    assert usage["totals"]["total_tokens"] == usage["quotas"]["tokens"]["used"] == 6
    # the price of models without a row of their own
    assert Decimal(usage["totals"]["cost_usd"]) == 6 * Decimal("0.0000001")
    [invoice] = (await person.http.get("/billing/invoices")).json()["items"]
    lines = (await person.http.get(f"/billing/invoices/{invoice['id']}")).json()["lines"]
    assert (lines[0]["model"], lines[0]["prompt_tokens"], lines[0]["messages"]) == (MODEL, 6, 0)
    assert await admin.fetch("SELECT * FROM ledger_differences()") == []


async def test_numbers_are_the_other_encoding(openai: AsyncOpenAI) -> None:
    answer = await openai.embeddings.create(
        model=MODEL, input="one two", encoding_format="float", dimensions=1
    )
    assert answer.data[0].embedding == [2.0]


async def test_the_synchronous_client_gets_the_same(gateway: Gateway, person: Person) -> None:
    key = await api_key(person, "search")

    def embed() -> list[float]:
        with OpenAI(base_url=f"{gateway.url}/v1", api_key=key) as client:
            return client.embeddings.create(model=MODEL, input="one two").data[0].embedding

    assert await asyncio.to_thread(embed) == [2.0]


async def test_a_repeated_key_is_answered_again_and_costs_nothing(
    openai: AsyncOpenAI, person: Person, admin: asyncpg.Connection
) -> None:
    key = {"idempotency-key": "vectors"}
    texts = TEXTS * 600
    told = [
        await openai.embeddings.with_raw_response.create(
            model=MODEL, input=texts, extra_headers=key
        )
        for _ in range(2)
    ]
    assert told[0].parse() == told[1].parse()
    assert len(told[1].parse().data) == len(texts)
    assert [each.headers.get("idempotency-replayed") for each in told] == [None, "true"]
    stored = "SELECT length(response_body) FROM idempotent_requests"
    assert await admin.fetchval(stored) < 500, "no vectors, whose number nothing bounds"
    assert (await usage_of(person))["totals"]["total_tokens"] == 6 * 600


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"input": [[1, 2, 3]]}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": "word " * 300}, "input"),
        ({"dimensions": 99}, "dimensions"),
    ],
)
async def test_what_cannot_be_embedded_is_named_and_costs_nothing(
    openai: AsyncOpenAI, person: Person, wrong: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai_package.BadRequestError) as caught:
        await openai.embeddings.create(**{"model": MODEL, "input": TEXTS, **wrong})
    assert caught.value.param == param
    assert (await usage_of(person))["quotas"]["tokens"]["used"] == 0


async def test_an_unknown_model_is_not_found(openai: AsyncOpenAI) -> None:
    with pytest.raises(openai_package.NotFoundError) as caught:
        await openai.embeddings.create(model="text-embedding-3-small", input="one")
    assert caught.value.code == "model_not_found"


async def test_a_quota_that_does_not_cover_the_texts_is_402_before_any_work(
    openai: AsyncOpenAI, person: Person, admin: asyncpg.Connection
) -> None:
    await admin.execute("UPDATE plans SET tokens_per_month = 100")
    await openai.embeddings.create(model=MODEL, input="one two")
    with pytest.raises(openai_package.APIStatusError) as caught:
        await openai.embeddings.create(model=MODEL, input="one two " * 100)
    assert caught.value.status_code == 402
    assert (await usage_of(person))["quotas"]["tokens"]["used"] == 2


async def test_while_it_works_the_most_that_it_may_cost_is_reserved(
    openai: AsyncOpenAI, person: Person, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    embedding = asyncio.create_task(openai.embeddings.create(model=MODEL, input="one two"))

    async def reserved() -> bool:
        return (await usage_of(person))["quotas"]["tokens"]["used"] == 4 * len("one two") + 2

    await until(reserved)
    plane.hold.set()
    await embedding
    assert (await usage_of(person))["quotas"]["tokens"]["used"] == 2


async def test_a_reservation_that_nobody_carries_on_is_given_back(
    gateway: Gateway, person: Person, admin: asyncpg.Connection
) -> None:
    ids = UUID(person.tenant_id), UUID(person.user_id), new_id()
    query = "SELECT reserve_embedding($1, $2, $3, 'm', 7, $4)"
    assert await admin.fetchval(query, *ids, timedelta(seconds=-1)) == "reserved"
    await gateway.app.state.embeddings.sweep()
    assert (await usage_of(person))["quotas"]["tokens"]["used"] == 0
    settle = "SELECT settle_embedding($1, $2, $3, 7)"
    assert await admin.fetchval(settle, ids[0], ids[2], new_id()) is None
    assert await admin.fetch("SELECT * FROM ledger_differences()") == []


async def test_a_reservation_that_cannot_be_given_back_keeps_no_other_one(
    gateway: Gateway, person: Person, admin: asyncpg.Connection
) -> None:
    ids = UUID(person.tenant_id), UUID(person.user_id)
    query = "SELECT reserve_embedding($1, $2, $3, 'm', 7, $4)"
    stuck, following = new_id(), new_id()
    assert await admin.fetchval(query, *ids, stuck, timedelta(seconds=-2)) == "reserved"
    assert await admin.fetchval(query, *ids, following, timedelta(seconds=-1)) == "reserved"
    # as if something had lost the reserved amount of the first
    await admin.execute("UPDATE embedding_reservations SET tokens = 15 WHERE id = $1", stuck)
    with capture_logs() as logs:
        await gateway.app.state.embeddings.sweep()
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert str(stuck) in logs[0]["reason"]
    left = await admin.fetch("SELECT id, expires_at - now() AS due_in FROM embedding_reservations")
    assert [row["id"] for row in left] == [stuck]
    assert left[0]["due_in"] > timedelta(minutes=9)
