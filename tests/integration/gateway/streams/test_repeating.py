"""Requests with a key whose answers are under way, and clients of whole answers that leave."""

import asyncio
from contextlib import suppress
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.gateway.conftest import Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.streams.conftest import Reading
from tests.integration.gateway.test_chat import usage_of


def keyed() -> dict[str, str]:
    return {"idempotency-key": str(uuid4())}


async def test_a_streamed_question_sent_again_while_it_is_answered_joins_its_stream(
    person: Person, second: str, plane: FakePlane
) -> None:
    plane.hold, key = asyncio.Event(), keyed()
    first = await Reading(person).ask(deltas=2, headers=key)
    joined = Reading(person)
    again = asyncio.create_task(joined.ask(url=second, headers=key))
    other = await Reading(person).ask(headers=key, json={"message": "Why?"})
    assert other.status == 422

    async def has_joined() -> bool:
        return bool(joined.events)

    await until(has_joined)
    plane.hold.set()
    await again
    assert joined.headers["idempotency-replayed"] == "true"
    assert joined.events[: len(first.events)] == first.events
    assert joined.last == "done"
    assert joined.text == "Two years [1]."
    assert len(plane.asked) == 1
    told = await Reading(person).ask(headers=key)
    assert told.names == ["meta", "delta", "usage", "done"]
    assert told.events[-1][2] == joined.events[-1][2]
    broken = Reading(person, told.events[:2])
    assert (await broken.resume(url=second)).events == told.events
    assert (await usage_of(person))["totals"]["messages"] == 1


class TestWholeAnswers:
    """A client that waits for the whole answer, and leaves."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"chat_resume_grace_s": 4}

    async def _left(
        self, person: Person, plane: FakePlane, key: dict[str, str], path: str = "/chat"
    ) -> None:
        body = {"message": "How long?"}
        asking = asyncio.create_task(person.http.post(path, json=body, headers=key))

        async def asked() -> bool:
            return len(plane.asked) == 1

        await until(asked)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

    async def test_with_a_key_the_answer_goes_on_for_a_client_that_comes_when_it_is_told_to(
        self, person: Person, plane: FakePlane, admin: asyncpg.Connection
    ) -> None:
        plane.hold, key = asyncio.Event(), keyed()
        await self._left(person, plane, key)
        body = {"message": "How long?"}
        for _ in range(3):  # which is longer than the grace
            waiting = await person.http.post("/chat", json=body, headers=key)
            assert waiting.status_code == 409
            await asyncio.sleep(int(waiting.headers["retry-after"]))
        plane.hold.set()

        async def told() -> bool:
            answer = await person.http.post("/chat", json=body, headers=key)
            return answer.is_success and answer.json()["finish_reason"] == "stop"

        await until(told)
        assert await admin.fetchval("SELECT count(*) FROM ledger") == 1

    async def test_with_a_key_it_stops_when_nobody_asks_again(
        self, person: Person, plane: FakePlane
    ) -> None:
        plane.hold = asyncio.Event()
        await self._left(person, plane, keyed())
        async with asyncio.timeout(20):
            await plane.hung_up.wait()

    @pytest.mark.parametrize("path", ["/chat", "/conversations"])
    async def test_without_a_key_it_stops_at_once(
        self, person: Person, plane: FakePlane, admin: asyncpg.Connection, path: str
    ) -> None:
        plane.hold = asyncio.Event()
        await self._left(person, plane, {}, path)

        async def settled() -> bool:
            return not await admin.fetchval("SELECT count(*) FROM reservations")

        await until(settled)
        assert plane.hung_up.is_set()
        (bill,) = await admin.fetch("SELECT * FROM ledger")
        assert bill["completion_tokens"] == 3
