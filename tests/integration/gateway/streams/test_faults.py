"""Streams where Redis fails, forgets or overflows, and where the gateway that writes is killed."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest
from redis.asyncio import Redis as RedisClient

from tests.integration.gateway.auth.test_limits import RunningRedis, own_redis, redis
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.processes import (
    TwoGateways,
    gateway_environment,
    two_gateways,
)
from tests.integration.gateway.streams.conftest import Reading
from tests.integration.gateway.test_chat import messages_of, usage_of
from tests.integration.gateway.test_process import open_answers

__all__ = ["gateway_environment", "own_redis", "redis", "two_gateways"]  # fixtures


@pytest.fixture
def overrides() -> dict[str, object]:
    """A grace that a busy machine does not use up."""
    return {"chat_resume_grace_s": 30}


@pytest.fixture
def redis_url(redis: RunningRedis) -> str:
    """A Redis that these tests may break."""
    return redis.server.url()


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[RedisClient]:
    """A look into Redis."""
    async with RedisClient.from_url(redis_url) as client:
        yield client


async def buffered(client: RedisClient, answer_id: str) -> int:
    """Return the id of the last event that is stored."""
    for key in await client.keys(f"stream:*:{answer_id}"):
        for entry_id, _ in await client.xrevrange(key, count=1):
            return int(entry_id.split(b"-")[0])
    return 0


async def test_without_redis_chat_goes_on_and_says_that_it_cannot_be_resumed(
    person: Person,
    second: str,
    plane: FakePlane,
    redis: RunningRedis,
) -> None:
    plane.hold = asyncio.Event()
    await redis.stop()
    reading = asyncio.create_task(Reading(person).ask())

    async def asked() -> bool:
        return bool(plane.asked)

    await until(asked)
    path = f"{second}/chat/streams/{plane.asked[0].answer_id}"
    assert (await person.http.get(path)).status_code == 503
    plane.hold.set()
    done = await reading
    assert done.headers["x-resumable"] == "false"
    assert done.last == "done"
    assert done.text == "Two years [1]."
    again = await done.resume(url=second, from_start=True)
    assert again.text == "Two years [1].", "from the stored message"


async def test_a_redis_that_fills_up_is_left_to_sessions_and_keeps_no_streams(
    person: Person, plane: FakePlane, client: RedisClient
) -> None:
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", used * 5 // 4)

    async def is_left() -> bool:
        reading = await Reading(person).ask()
        assert reading.last == "done"
        return reading.headers["x-resumable"] == "false"

    await until(is_left)
    await client.delete(*await client.keys("stream:*") or ["none"])
    plane.words = ["word " * 1000] * 20
    full = await Reading(person).ask()
    assert full.text == "".join(plane.words)
    assert not await client.keys("stream:*")
    again = await full.resume(from_start=True)
    assert again.text == "".join(plane.words), "from the stored message"
    assert (await person.http.post("/auth/logout")).status_code == 204, "there is room for that"
    await client.config_set("maxmemory", 0)


async def test_a_stop_without_redis_is_seen_at_the_next_checkpoint(
    person: Person,
    second: str,
    plane: FakePlane,
    redis: RunningRedis,
) -> None:
    plane.hold = asyncio.Event()
    await redis.stop()
    reading = asyncio.create_task(Reading(person).ask())

    async def asked() -> bool:
        return bool(plane.asked)

    await until(asked)
    path = f"{second}/chat/streams/{plane.asked[0].answer_id}"
    assert (await person.http.delete(path)).status_code == 204
    assert (await reading).last == "done"
    assert (await reading).events[-1][2]["finish_reason"] == "cancelled"


async def test_when_redis_goes_in_the_middle_who_reads_on_is_told_and_loses_nothing(
    gateway: Gateway,
    person: Person,
    second: str,
    plane: FakePlane,
    redis: RunningRedis,
) -> None:
    plane.hold = asyncio.Event()
    asking = Reading(person)
    first = asyncio.create_task(asking.ask())

    async def read() -> bool:
        return len(asking.events) == 7

    await until(read)
    follower = Reading(person, asking.events[:2])
    following = asyncio.create_task(follower.resume(url=second))

    async def followed() -> bool:
        return len(follower.events) == 7

    await until(followed)
    await redis.stop()
    await following
    assert follower.last == "error"
    assert follower.events[-1][2]["status"] == 503
    assert follower.events[-1][0] == asking.events[6][0], "to come again loses nothing"
    plane.hold.set()
    assert (await first).last == "done", "who reads the answer itself does not notice"
    await redis.start()
    follower.events.pop()

    async def resumed() -> bool:
        again = await Reading(person, list(follower.events)).resume(url=gateway.url)
        assert again.status in {200, 410, 503}
        if again.status == 200:
            assert again.text == asking.text
            assert again.last == "done"
        return again.status != 503

    await until(resumed)
    assert (await usage_of(person))["totals"]["messages"] == 1


async def test_when_redis_forgets_in_the_middle_a_gap_is_never_told(
    person: Person, second: str, plane: FakePlane, client: RedisClient
) -> None:
    plane.words, plane.pause_s, plane.hold = [f"{n} " for n in range(200)], 0.02, asyncio.Event()
    reading = await Reading(person).ask(deltas=2)

    async def ahead() -> bool:
        return await buffered(client, reading.answer_id) > 20

    await until(ahead)
    for key in await client.keys("stream:*"):
        await client.delete(key)

    async def written() -> bool:
        return await buffered(client, reading.answer_id) >= 400

    await until(written)
    gap = await Reading(person, list(reading.events)).resume(url=second)
    assert gap.status == 410
    plane.hold.set()

    async def told() -> bool:
        whole = await Reading(person, list(reading.events)).resume(from_start=True)
        return whole.status == 200 and whole.text == "".join(plane.words)

    await until(told)


async def test_of_an_answer_of_more_than_a_megabyte_the_newest_part_can_be_resumed(
    person: Person, second: str, plane: FakePlane, client: RedisClient
) -> None:
    plane.words = [f"{number:04d}" + "ä" * 3000 for number in range(300)]
    plane.hold = asyncio.Event()
    late = await Reading(person).ask(deltas=290)
    early = Reading(person, [event for event in late.events if event[0] <= 20])

    async def written() -> bool:
        return await buffered(client, late.answer_id) >= 600

    await until(written, seconds=60)
    (key,) = await client.keys(f"stream:*:{late.answer_id}")
    entries = await client.xrange(key)
    assert sum(len(raw) for _, fields in entries for raw in fields.values()) <= 1024 * 1024
    await early.resume(url=second)
    assert early.status == 410
    resuming = asyncio.create_task(late.resume(url=second))

    async def resumed() -> bool:
        return late.status == 200

    await until(resumed)
    plane.hold.set()
    assert (await resuming).last == "done"
    assert late.text == "".join(plane.words)
    stored = (await messages_of(person, late.conversation_id))[-1]
    assert stored["content"] == late.text
    whole = await early.resume(from_start=True)
    assert whole.text == late.text, "from the stored message"


class TestHeartbeat:
    """Silence on the wire."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"stream_heartbeat_s": 0.1}

    async def test_a_silent_stream_carries_comments(
        self, person: Person, second: str, plane: FakePlane
    ) -> None:
        plane.hold = asyncio.Event()
        body = {"message": "How long?", "stream": True}
        async with person.http.stream("POST", "/chat", json=body) as response:
            assert await self._beats(response.aiter_lines()) == 3
            path = f"{second}/chat/streams/{plane.asked[0].answer_id}"
            async with person.http.stream("GET", path) as resumed:
                assert await self._beats(resumed.aiter_lines()) == 3
            plane.hold.set()

    async def test_so_does_one_of_openais_api_which_nobody_resumes_and_nothing_keeps(
        self, person: Person, plane: FakePlane, client: RedisClient
    ) -> None:
        plane.hold = asyncio.Event()
        question = {"role": "user", "content": "How long?"}
        body = {"model": "polyplane", "messages": [question], "stream": True}
        async with person.http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            assert await self._beats(lines) == 3
            plane.hold.set()
            assert [line async for line in lines][-2] == "data: [DONE]"
        assert not await client.keys("stream:*")

    async def _beats(self, lines: AsyncIterator[str]) -> int:
        seen = 0
        async with asyncio.timeout(20):
            async for line in lines:
                seen += line.startswith(":")
                if seen == 3:
                    break
        return seen


async def test_a_gateway_that_is_killed_leaves_a_stream_that_ends_and_one_bill(
    two_gateways: TwoGateways, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    plane.hold = asyncio.Event()
    person = await two_gateways.register()
    reading = await Reading(person).ask(deltas=3)
    answer_id = UUID(reading.answer_id)

    async def checkpointed() -> bool:
        query = "SELECT completion_tokens FROM reservations WHERE id = $1"
        return bool(await admin.fetchval(query, answer_id))

    await until(checkpointed)
    (writer,) = [each for each in two_gateways.processes if await open_answers(each)]
    await writer.kill()
    # as it is some checkpoints later, and where the sweep could not end it
    for due_in in (timedelta(seconds=30), timedelta(minutes=10)):
        await admin.execute("UPDATE reservations SET expires_at = now() + $1::interval", due_in)
        await reading.resume()
        assert reading.last == "error"
        assert reading.events[-1][2]["status"] == 503
    path = f"/conversations/{reading.conversation_id}/messages"
    assert (await person.http.post(path, json={"message": "And?"})).status_code == 409
    await admin.execute("UPDATE reservations SET expires_at = now()")

    async def swept() -> bool:
        return bool(await admin.fetchval("SELECT count(*) FROM ledger"))

    await until(swept, seconds=30)
    plane.hold.set()
    told = await reading.resume(from_start=True)
    assert told.last == "done"
    assert told.events[-1][2]["finish_reason"] == "cancelled"
    assert told.text == "Two years [1]."
    assert await admin.fetchval("SELECT count(*) FROM ledger") == 1


async def test_a_killed_gateways_answer_that_is_stopped_frees_its_conversation(
    two_gateways: TwoGateways, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    plane.hold = asyncio.Event()
    person = await two_gateways.register()
    reading = await Reading(person).ask(deltas=3)
    (writer,) = [each for each in two_gateways.processes if await open_answers(each)]
    await writer.kill()
    stopped = await person.http.delete(f"/chat/streams/{reading.answer_id}")
    assert stopped.status_code == 204
    plane.hold.set()
    path = f"/conversations/{reading.conversation_id}/messages"

    async def asked() -> bool:
        return (await person.http.post(path, json={"message": "And?"})).is_success

    await until(asked, seconds=45)
    assert await admin.fetchval("SELECT count(*) FROM reservations") == 0
