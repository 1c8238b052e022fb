"""Whatever clients do, they pay for what was produced, once: two gateways on the same stores."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest

from planes.shared.wire import AnswerRequest, Meta, Problem, Usage, encode_event
from services.gateway.app import create_app
from tests.integration.gateway.conftest import Gateway, Person, served, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.test_chat import events_of

SEED = 20261121
ANSWERS = 100
PEOPLE = 10
PROMPT_TOKENS = 40


@dataclass(frozen=True)
class Fate:
    """What becomes of one answer, told to the plane in the question.

    `stops_after`: the plane waits after so many tokens, and the client hangs up when it has seen
    them. `hangs_up_s`: the client hangs up then, while the plane goes on.
    """

    number: int
    tokens: int
    stops_after: int | None = None
    hangs_up_s: float | None = None
    is_refused: bool = False

    @classmethod
    def of(cls, number: int, random: Random) -> "Fate":
        tokens = random.randint(1, 40)
        match number % 5:
            case 0 | 1:
                return cls(number, tokens, stops_after=random.randint(0, tokens))
            case 2 | 3:
                return cls(number, tokens, hangs_up_s=random.uniform(0, 0.4))
        return cls(number, tokens, is_refused=random.random() < 0.5)


@dataclass
class CountingPlane(FakePlane):
    """Follows the fates of its questions and counts the tokens that it has sent."""

    fates: dict[str, Fate] = field(default_factory=dict)
    produced: Counter[str] = field(default_factory=Counter)

    async def _events(self, asked: AnswerRequest) -> AsyncIterator[bytes]:
        fate = self.fates[asked.message]
        meta = Meta(
            id=asked.answer_id,
            conversation_id=asked.conversation_id,
            model=self.model,
            mode=asked.mode,
        )
        yield encode_event("meta", meta, event_id=1)
        usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=0)
        yield encode_event("usage", usage, event_id=2)
        if fate.is_refused:
            problem = Problem(code="unavailable", title="Down", status=503, detail="No model.")
            yield encode_event("error", problem, event_id=3)
            return
        for count in range(1, fate.tokens + 1):
            if fate.stops_after == count - 1:
                await asyncio.Event().wait()
            self.produced[asked.message] = count
            delta = {"text": "word ", "completion_tokens": count}
            yield encode_event("delta", delta, event_id=2 + count)
            await asyncio.sleep(0.01)
        if fate.stops_after is not None:
            await asyncio.Event().wait()
        self.words = ["word "] * fate.tokens
        yield self._last(3 + fate.tokens)


@pytest.fixture
async def plane() -> CountingPlane:
    return CountingPlane()


@pytest.fixture
def overrides() -> dict[str, object]:
    """Deadlines that a busy machine does not miss: here only quotas and fates end answers."""
    return {
        "database_connections": 20,
        "database_deadline_s": 60,
        "answer_header_s": 30,
        "chat_resume_grace_s": 0.2,
    }


@pytest.fixture
async def people(gateway: Gateway) -> AsyncIterator[list[Person]]:
    """Several, because each may ask only so often."""
    people = [await gateway.register() for _ in range(PEOPLE)]
    yield people
    for person in people:
        await person.http.aclose()


@pytest.fixture
async def second(gateway: Gateway) -> AsyncIterator[str]:
    """Another gateway on the same stores."""
    async with served(create_app(gateway.app.state.settings)) as url:
        yield url


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def ask(person: Person, url: str, fate: Fate) -> int:
    """Ask, hang up as it is fated, and return how many tokens the client has seen."""
    seen = 0
    body = {"message": str(fate.number), "stream": True}
    headers = {"idempotency-key": f"fate {fate.number}"}
    with suppress(TimeoutError):
        async with asyncio.timeout(fate.hangs_up_s):
            while True:  # a machine that is too busy says 503, without an effect
                async with person.http.stream(
                    "POST", f"{url}/chat", json=body, headers=headers
                ) as response:
                    if response.status_code == 503:
                        continue
                    assert response.status_code == 200, await response.aread()
                    async for _, name, data in events_of(response):
                        if name == "delta":
                            seen = data["completion_tokens"]
                        if name != "meta" and seen == fate.stops_after:
                            break
                    break
    return seen


async def bills_of(admin: asyncpg.Connection) -> dict[UUID, list[asyncpg.Record]]:
    bills: dict[UUID, list[asyncpg.Record]] = {}
    for row in await admin.fetch("SELECT * FROM ledger WHERE kind = 'answer'"):
        bills.setdefault(row["request_id"], []).append(row)
    return bills


async def texts_of(admin: asyncpg.Connection) -> dict[UUID, str]:
    rows = await admin.fetch(
        "SELECT id, payload FROM outbox UNION SELECT id, payload FROM chat_messages"
    )
    return {row["id"]: orjson.loads(row["payload"])["content"] for row in rows}


async def assert_quotas_are_the_ledgers(admin: asyncpg.Connection) -> None:
    differences = await admin.fetch(
        "SELECT q.* FROM quota_periods q LEFT JOIN (SELECT tenant_id, count(*) AS messages, "
        "sum(prompt_tokens + completion_tokens) AS tokens, sum(cost_usd) AS cost FROM ledger "
        "WHERE kind = 'answer' GROUP BY 1) l USING (tenant_id) "
        "WHERE q.messages_used <> coalesce(l.messages, 0) "
        "OR q.tokens_used <> coalesce(l.tokens, 0) "
        "OR q.cost_usd_used <> coalesce(l.cost, 0) OR q.messages_reserved <> 0 "
        "OR q.tokens_reserved <> 0 OR q.cost_usd_reserved <> 0"
    )
    assert not differences


async def test_clients_that_hang_up_pay_for_the_tokens_produced_until_then_once(
    gateway: Gateway,
    second: str,
    people: list[Person],
    plane: CountingPlane,
    admin: asyncpg.Connection,
) -> None:
    random = Random(SEED)  # noqa: S311 (fates that come again)
    fates = [Fate.of(number, random) for number in range(ANSWERS)]
    plane.fates = {str(fate.number): fate for fate in fates}
    urls = (gateway.url, second)
    seen = await asyncio.gather(
        *(ask(people[f.number % PEOPLE], urls[f.number // 5 % 2], f) for f in fates)
    )

    async def settled() -> bool:
        return not await admin.fetchval("SELECT count(*) FROM reservations")

    await until(settled, seconds=30)
    bills, texts = await bills_of(admin), await texts_of(admin)
    billed: dict[int, int] = {}
    for asked in plane.asked:
        fate, rows = plane.fates[asked.message], bills.pop(asked.answer_id, [])
        assert len(rows) <= 1, "billed once"
        billed[fate.number] = rows[0]["completion_tokens"] if rows else 0
        assert all(row["prompt_tokens"] == PROMPT_TOKENS for row in rows)
        text = texts.get(asked.message_id, "")
        assert text == "word " * billed[fate.number], "what is kept is what is billed"
        assert bool(rows) == bool(billed[fate.number]), "nothing produced, nothing billed"
    assert not bills, "every bill has its answer"
    for fate, shown in zip(fates, seen, strict=True):
        paid, produced = billed.get(fate.number, 0), plane.produced[str(fate.number)]
        assert shown <= paid <= produced, fate
        if fate.hangs_up_s is None:
            expected = 0 if fate.is_refused else fate.tokens
            assert paid == (expected if fate.stops_after is None else fate.stops_after), fate
    await assert_quotas_are_the_ledgers(admin)
    await _repeat_what_was_billed(people, billed, plane, admin)


async def _repeat_what_was_billed(
    people: list[Person],
    billed: dict[int, int],
    plane: CountingPlane,
    admin: asyncpg.Connection,
) -> None:
    """Everybody tries again after the hang-up: told what was billed, for nothing."""
    asked, rows = len(plane.asked), await admin.fetchval("SELECT count(*) FROM ledger")
    for number, tokens in billed.items():
        if not tokens:
            continue
        again = await people[number % PEOPLE].http.post(
            f"{people[number % PEOPLE].http.base_url}/chat",
            json={"message": str(number), "stream": True},
            headers={"idempotency-key": f"fate {number}"},
        )
        assert again.headers["idempotency-replayed"] == "true"
        done: dict[str, Any] = orjson.loads(again.text.rsplit("data: ", 1)[1])
        assert done["usage"]["completion_tokens"] == tokens
    assert len(plane.asked) == asked
    assert await admin.fetchval("SELECT count(*) FROM ledger") == rows


async def test_a_quota_of_a_hundred_messages_serves_a_hundred_of_two_hundred(
    gateway: Gateway, second: str, plane: CountingPlane, admin: asyncpg.Connection
) -> None:
    await admin.execute(
        "UPDATE plans SET messages_per_month = 100, requests_per_minute = 100000, "
        "chat_requests_per_minute = 100000"
    )
    plane.fates = {str(number): Fate(number, 3) for number in range(200)}
    person = await gateway.register()
    await person.http.aclose()
    urls = (gateway.url, second)
    headers = {"authorization": person.http.headers["authorization"]}
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=0)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=60) as http:

        async def decided(number: int) -> httpx.Response:
            """Ask again while the machine is too busy, as `Retry-After` says."""
            while True:
                url, body = urls[number % 2], {"message": str(number)}
                answer = await http.post(f"{url}/chat", json=body)
                if answer.status_code != 503:
                    return answer
                await asyncio.sleep(int(answer.headers["retry-after"]))

        answers = await asyncio.gather(*map(decided, range(200)))
    codes = Counter(answer.status_code for answer in answers)
    assert codes == {200: 100, 402: 100}
    assert await admin.fetchval("SELECT count(*) FROM ledger WHERE kind = 'answer'") == 100
    await assert_quotas_are_the_ledgers(admin)
