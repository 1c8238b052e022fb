"""A broken connection loses nothing and doubles nothing, whichever gateway comes next."""

import asyncio
import time
from random import Random

import asyncpg
import pytest

from planes.shared.domain import new_id
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.streams.conftest import Reading
from tests.integration.gateway.test_chat import messages_of, usage_of

SEED = 20261122
WORDS = [f"wörd{number} 👩‍🚀 " for number in range(60)]


async def stored_text(reading: Reading) -> str:
    return str((await messages_of(reading.person, reading.conversation_id))[-1]["content"])


async def test_any_sequence_of_breaks_gives_the_stored_text(
    gateway: Gateway, person: Person, second: str, plane: FakePlane
) -> None:
    plane.words, plane.pause_s = WORDS, 0.01
    random = Random(SEED)  # noqa: S311 (breaks that come again)
    urls = [gateway.url, second]
    for _ in range(4):
        reading = await Reading(person).ask(deltas=random.randint(1, 9), url=random.choice(urls))
        assert reading.headers["x-resumable"] == "true"
        while reading.last not in {"done", "error"}:
            await reading.resume(deltas=random.randint(0, 12), url=random.choice(urls))
            assert reading.status == 200, reading.problem
        assert reading.last == "done"
        assert reading.text == "".join(WORDS) == await stored_text(reading)
        ids = [number for number, _, _ in reading.events]
        assert ids == sorted(set(ids)), "no event came twice"
        assert reading.names.count("done") == 1
        assert reading.events[-1][2]["finish_reason"] == "stop"
    assert (await usage_of(person))["totals"]["messages"] == 4, "billed once each"
    assert len(plane.asked) == 4


async def test_twenty_clients_at_once_read_the_same_on_both_gateways(
    gateway: Gateway, person: Person, second: str, plane: FakePlane
) -> None:
    plane.words, plane.hold = WORDS, asyncio.Event()
    first = await Reading(person).ask(deltas=3)

    async def again(url: str) -> Reading:
        return await Reading(person, list(first.events)).resume(url=url)

    tasks = [asyncio.create_task(again((gateway.url, second)[n % 2])) for n in range(20)]
    await asyncio.sleep(0)
    plane.hold.set()
    for reading in await asyncio.gather(*tasks):
        assert reading.text == "".join(WORDS)
        assert reading.last == "done"
        assert reading.events[3:] == (await asyncio.gather(*tasks))[0].events[3:]


async def test_a_stream_that_has_ended_is_told_from_any_event_on(
    person: Person, second: str
) -> None:
    whole = await Reading(person).ask()
    for seen in range(1, len(whole.events)):
        reading = await Reading(person, whole.events[:seen]).resume(url=second)
        assert reading.events == whole.events
    after = await Reading(person, list(whole.events)).resume(url=second)
    assert after.status == 204, "an EventSource comes no more"


async def test_when_its_events_are_forgotten_a_stream_is_told_from_the_stored_message(
    gateway: Gateway, person: Person
) -> None:
    whole = await Reading(person).ask()
    redis = gateway.app.state.streams._stores.buffer._redis
    for key in await redis.keys("stream:*"):
        await redis.delete(key)
    again = await Reading(person, list(whole.events)).resume(from_start=True)
    assert again.names == ["meta", "delta", "usage", "done"]
    assert again.text == whole.text
    assert again.events[-1][2] == whole.events[-1][2]
    middle = await Reading(person, whole.events[:3]).resume()
    assert middle.status == 410
    assert middle.problem["message_id"] == whole.events[-1][2]["message"]["id"]


async def test_a_stream_of_somebody_else_is_absent(
    person: Person, stranger: Person, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    mine = await Reading(person).ask(deltas=3)
    absent = f"/chat/streams/{new_id()}"
    for method in ("GET", "DELETE"):
        foreign = await stranger.http.request(method, f"/chat/streams/{mine.answer_id}")
        nothing = await stranger.http.request(method, absent)
        assert foreign.status_code == nothing.status_code == 404
        assert foreign.json()["detail"] == nothing.json()["detail"]
    plane.hold.set()
    await mine.resume()
    assert mine.last == "done", "nobody else has stopped it"
    ended = await stranger.http.get(f"/chat/streams/{mine.answer_id}")
    assert ended.status_code == 404
    assert ended.json()["detail"] == nothing.json()["detail"]


@pytest.mark.parametrize("garbage", ["x", "-1", "1e3", "9" * 16, "\uff11", "1;2", "7 x"])
async def test_a_last_event_id_that_is_none_is_refused(person: Person, garbage: str) -> None:
    whole = await Reading(person).ask()
    headers = {"last-event-id": garbage.encode()}
    answer = await person.http.get(f"/chat/streams/{whole.answer_id}", headers=headers)
    assert answer.status_code == 422


async def test_a_client_that_claims_to_have_seen_more_still_gets_the_end(
    person: Person, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    first = await Reading(person).ask(deltas=3)
    later = Reading(person, [*first.events, (999, "usage", {})])
    reading = asyncio.create_task(later.resume())

    async def follows() -> bool:
        return later.status == 200

    await until(follows)
    plane.hold.set()
    assert (await reading).last == "done"


async def test_an_answer_that_fails_tells_so_to_who_comes_back(
    person: Person, second: str, plane: FakePlane
) -> None:
    plane.hold, plane.ends_with = asyncio.Event(), "error"
    reading = await Reading(person).ask(deltas=3)
    plane.hold.set()
    await reading.resume(url=second)
    assert reading.last == "error"
    assert reading.events[-1][2]["detail"] == "No model."
    again = await Reading(person, reading.events[:2]).resume()
    assert again.events == reading.events


class TestGrace:
    """How long an answer outlives its readers."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"chat_resume_grace_s": 1.5}

    async def test_nobody_comes_back_and_the_answer_stops_and_is_billed_once(
        self, person: Person, second: str, plane: FakePlane, admin: asyncpg.Connection
    ) -> None:
        plane.hold = asyncio.Event()
        reading = await Reading(person).ask(deltas=3)
        left_at = time.monotonic()
        async with asyncio.timeout(30):
            await plane.hung_up.wait()
        assert time.monotonic() - left_at >= 1.4, "not before the grace is over"
        await reading.resume(url=second)
        assert reading.last == "done"
        assert reading.events[-1][2]["finish_reason"] == "cancelled"
        assert reading.text == await stored_text(reading)
        bills = await admin.fetch("SELECT completion_tokens, cost_usd FROM ledger")
        assert [row["completion_tokens"] for row in bills] == [3]
        told = reading.events[-1][2]["usage"]
        assert told["completion_tokens"] == 3
        assert float(told["cost_usd"]) == float(bills[0]["cost_usd"])

    async def test_who_reads_on_another_gateway_keeps_it_going(
        self, person: Person, second: str, plane: FakePlane
    ) -> None:
        plane.hold = asyncio.Event()
        reading = await Reading(person).ask(deltas=3)
        following = asyncio.create_task(reading.resume(url=second))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4):  # longer than the grace
                await plane.hung_up.wait()
        plane.hold.set()
        assert (await following).last == "done"
        assert reading.events[-1][2]["finish_reason"] == "stop"

    async def test_a_question_meanwhile_is_a_conflict_and_afterwards_is_not(
        self, person: Person, plane: FakePlane
    ) -> None:
        plane.hold = asyncio.Event()
        reading = await Reading(person).ask(deltas=3)
        path = f"/conversations/{reading.conversation_id}/messages"
        refused = await person.http.post(path, json={"message": "And?"})
        assert refused.status_code == 409
        await plane.hung_up.wait()
        plane.hold.set()

        async def asked() -> bool:
            return (await person.http.post(path, json={"message": "And?"})).is_success

        await until(asked)


class TestWithoutGrace:
    """An operator has turned resuming off."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"chat_resume_grace_s": 0}

    async def test_a_hang_up_ends_the_answer_at_once(
        self, person: Person, plane: FakePlane
    ) -> None:
        plane.hold = asyncio.Event()
        reading = await Reading(person).ask(deltas=3)
        assert reading.headers["x-resumable"] == "false"
        async with asyncio.timeout(5):
            await plane.hung_up.wait()

        whole = list(reading.events)
        await until(lambda: _is_told(person, whole))

    async def test_nobody_follows_it_while_it_runs(self, person: Person, plane: FakePlane) -> None:
        plane.hold = asyncio.Event()
        asking = asyncio.create_task(Reading(person).ask())

        async def running() -> bool:
            return bool(plane.asked)

        await until(running)
        other = await person.http.get(f"/chat/streams/{plane.asked[0].answer_id}")
        assert other.status_code == 409
        plane.hold.set()
        assert (await asking).last == "done"


async def _is_told(person: Person, seen: list[tuple[int, str, dict[str, object]]]) -> bool:
    again = await Reading(person, list(seen)).resume(from_start=True)
    return again.status == 200 and again.events[-1][2]["finish_reason"] == "cancelled"
