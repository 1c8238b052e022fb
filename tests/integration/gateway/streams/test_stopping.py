"""Answers that somebody stops: from any gateway, at once, billed for what was produced."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.streams.conftest import Reading
from tests.integration.gateway.test_chat import messages_of, usage_of


@pytest.fixture
async def plane() -> FakePlane:
    """It says three words and waits."""
    return FakePlane(hold=asyncio.Event())


async def begun(plane: FakePlane) -> None:
    async def asked() -> bool:
        return bool(plane.asked)

    await until(asked)


async def produced(admin: asyncpg.Connection, reading: asyncio.Task[Any], tokens: int) -> None:
    async def checkpointed() -> bool:
        assert not reading.done()
        return tokens in [
            row["completion_tokens"] for row in await admin.fetch("SELECT * FROM reservations")
        ]

    await until(checkpointed)


@pytest.mark.parametrize("where", ["here", "there"])
async def test_an_answer_is_stopped_from_either_gateway_while_it_is_read(  # noqa: PLR0917
    where: str,
    gateway: Gateway,
    person: Person,
    second: str,
    plane: FakePlane,
    admin: asyncpg.Connection,
) -> None:
    asking = asyncio.create_task(Reading(person).ask())
    await begun(plane)
    await produced(admin, asking, 3)
    url = gateway.url if where == "here" else second
    path = f"/chat/streams/{plane.asked[0].answer_id}"
    assert (await person.http.delete(f"{url}{path}")).status_code == 204
    assert await admin.fetchval("SELECT count(*) FROM reservations") == 0, "settled by then"
    assert plane.hung_up.is_set()
    reading = await asking
    assert reading.last == "done"
    done = reading.events[-1][2]
    assert done["finish_reason"] == "cancelled"
    assert done["usage"]["completion_tokens"] == 3
    _, stored = await messages_of(person, reading.conversation_id)
    assert stored["content"] == reading.text == "Two years [1]."
    assert stored["finish_reason"] == "cancelled"
    assert stored["usage"] == done["usage"]
    assert (await person.http.delete(f"{url}{path}")).status_code == 204, "again"
    assert await admin.fetchval("SELECT count(*) FROM ledger") == 1
    following = await person.http.post(
        f"/conversations/{reading.conversation_id}/messages", json={"message": "", "stream": True}
    )
    assert following.status_code == 422


async def test_a_client_that_has_gone_stops_its_answer_and_reads_the_rest(
    person: Person, second: str
) -> None:
    reading = await Reading(person).ask(deltas=2)
    stopped = await person.http.delete(f"{second}/chat/streams/{reading.answer_id}")
    assert stopped.status_code == 204
    await reading.resume(url=second)
    assert reading.last == "done"
    assert reading.events[-1][2]["finish_reason"] == "cancelled"
    assert reading.text == "Two years [1]."


async def test_a_stop_that_no_gateway_hears_is_seen_at_the_next_checkpoint(
    person: Person, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    asking = asyncio.create_task(Reading(person).ask())
    await begun(plane)
    await admin.execute(
        "SELECT stop_answer($1, $2, $3, interval '10 s')",
        UUID(person.tenant_id),
        UUID(person.user_id),
        plane.asked[0].answer_id,
    )
    reading = await asking
    assert reading.last == "done"
    assert reading.events[-1][2]["finish_reason"] == "cancelled"


async def test_an_answer_stopped_before_its_first_token_costs_nothing(
    person: Person, plane: FakePlane
) -> None:
    plane.words = []
    reading = asyncio.create_task(Reading(person).ask())
    await begun(plane)
    path = f"/chat/streams/{plane.asked[0].answer_id}"
    assert (await person.http.delete(path)).status_code == 204
    last = (await reading).events[-1]
    assert last[1] == "done"
    assert last[2]["finish_reason"] == "cancelled"
    assert last[2]["usage"]["total_tokens"] == 0
    assert (await usage_of(person))["totals"]["messages"] == 0
    (question,) = await messages_of(person, last[2]["conversation_id"])
    assert question["role"] == "user"


async def test_a_whole_answer_that_is_stopped_is_told_as_far_as_it_came(
    person: Person, second: str, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    asking = asyncio.create_task(person.http.post("/chat", json={"message": "How long?"}))
    await begun(plane)
    await produced(admin, asking, 3)
    path = f"{second}/chat/streams/{plane.asked[0].answer_id}"
    assert (await person.http.delete(path)).status_code == 204
    answer = await asking
    assert answer.status_code == 200
    assert answer.json()["finish_reason"] == "cancelled"
    assert answer.json()["message"]["content"] == "Two years [1]."


async def test_with_a_conversation_its_streams_go_also_one_that_is_under_way(
    gateway: Gateway, person: Person, second: str, plane: FakePlane
) -> None:
    reading = await Reading(person).ask(deltas=3)
    path = f"/conversations/{reading.conversation_id}"
    redis = gateway.app.state.streams._stores.buffer._redis
    kept = await redis.keys(f"stream:*:{reading.answer_id}")
    events = await redis.dump(kept[0])
    assert (await person.http.delete(f"{second}{path}")).status_code == 204
    async with asyncio.timeout(20):
        await plane.hung_up.wait()
    assert not await redis.keys(f"stream:*:{reading.answer_id}")
    await redis.restore(kept[0], 60_000, events)
    resumed = await Reading(person, list(reading.events)).resume(url=second)
    assert resumed.status == 404, "though its events are in the buffer"
    again = await Reading(person, list(reading.events)).resume(from_start=True)
    assert again.status == 404


async def test_signing_out_ends_a_graced_answer_and_who_follows_it(
    person: Person, second: str, admin: asyncpg.Connection
) -> None:
    reading = await Reading(person).ask(deltas=3)
    following = asyncio.create_task(reading.resume(url=second))
    await produced(admin, following, 3)
    assert (await person.http.post("/auth/logout")).status_code == 204
    async with asyncio.timeout(10):
        await following
    assert reading.last == "error"
    assert reading.events[-1][2]["status"] == 401

    async def settled() -> bool:
        return not await admin.fetchval("SELECT count(*) FROM reservations")

    await until(settled)
    assert await admin.fetchval("SELECT count(*) FROM ledger") == 1
