"""The gateway with its messages in a CQL cluster, there and away."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane
from tests.servers.cassandra import CassandraServer


@pytest.fixture
def overrides(own_cql_values: dict[str, object]) -> dict[str, object]:
    return {**own_cql_values, "cql_deadline_s": 1.0}


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def ask(person: Person, message: str, **more: Any) -> dict[str, Any]:
    answer = await person.http.post("/chat", json={"message": message, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def told(person: Person, conversation_id: str) -> list[str]:
    answer = await person.http.get(f"/conversations/{conversation_id}/messages")
    assert answer.status_code == 200, answer.text
    return [each["content"] for each in answer.json()["items"]]


async def drained(admin: asyncpg.Connection) -> None:
    """Wait until every message has left the outbox."""

    async def is_empty() -> bool:
        return await admin.fetchval("SELECT count(*) FROM outbox") == 0

    await until(is_empty, seconds=120)
    assert await admin.fetchval("SELECT count(*) FROM chat_messages") == 0


async def answered_elsewhere(admin: asyncpg.Connection) -> None:
    """Have the gateway read conversations that it knows, as if another one had gone on there."""
    await admin.execute("UPDATE conversations SET last_answer = gen_random_uuid()")


async def chat_log_of(person: Person) -> dict[str, Any]:
    health = (await person.http.get("/health/ready")).json()
    return {"all": health["status"], "chat_log": health["parts"]["chat_log"]["status"]}


async def test_messages_move_to_the_cluster_and_go_with_their_conversation_and_tenant(
    gateway: Gateway, person: Person, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    gone = (await ask(person, "How long is the warranty?"))["conversation_id"]
    kept = (await ask(person, "And in Norway?"))["conversation_id"]
    await drained(admin)
    said = ["How long is the warranty?", "Two years [1]."]
    assert await told(person, gone) == said
    await answered_elsewhere(admin)
    await ask(person, "Since when?", conversation_id=gone)
    assert [turn.content for turn in plane.asked[-1].history] == said

    assert (await person.http.delete(f"/conversations/{gone}")).status_code == 204

    async def is_purged() -> bool:
        return await admin.fetchval("SELECT count(*) FROM conversations") == 1

    await until(is_purged, seconds=60)
    assert len(await told(person, kept)) == 2
    receipt = (await person.http.delete("/tenant")).json()["receipt"]
    found: dict[str, Any] = {}

    async def is_complete() -> bool:
        answer = await other.http.get(f"/tenant/receipts/{receipt}")
        found.update(answer.json())
        return found.get("status") == "complete"

    other = await gateway.register()
    await until(is_complete, seconds=60)
    await other.http.aclose()
    assert found["removed"]["chat_messages"] == 2


async def test_chat_goes_on_while_the_cluster_is_frozen_and_the_log_catches_up(
    person: Person,
    plane: FakePlane,
    admin: asyncpg.Connection,
    cassandra_server: CassandraServer,
) -> None:
    old = (await ask(person, "Before?"))["conversation_id"]
    await drained(admin)
    assert await chat_log_of(person) == {"all": "degraded", "chat_log": "ok"}  # no Dagster here
    cassandra_server.freeze()
    try:
        asked = [ask(person, f"Question {number}?") for number in range(10)]
        new = [answer["conversation_id"] for answer in await asyncio.gather(*asked)]
        await ask(person, "Go on?", conversation_id=new[0])
        assert [turn.content for turn in plane.asked[-1].history] == [
            "Question 0?",
            "Two years [1].",
        ]
        assert len(await told(person, new[0])) == 4
        await answered_elsewhere(admin)
        late = await ask(person, "And after?", conversation_id=old)
        assert late["has_partial_history"]

        refused = await person.http.get(f"/conversations/{old}/messages")
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert "chat log" in refused.json()["detail"]
        assert (await chat_log_of(person))["chat_log"] == "unavailable"
        assert len((await person.http.get("/conversations")).json()["items"]) == 11
    finally:
        cassandra_server.go_on()
    await drained(admin)
    answered = "Two years [1]."
    assert await told(person, old) == ["Before?", answered, "And after?", answered]
    whole = await ask(person, "Is all there?", conversation_id=old)
    assert not whole["has_partial_history"]
    assert len(plane.asked[-1].history) == 4
    for number, conversation_id in enumerate(new):
        assert (await told(person, conversation_id))[0] == f"Question {number}?"
    assert (await chat_log_of(person))["chat_log"] == "ok"


class TestAwayAtTheStart:
    """No node answers, and none will."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"cql_hosts": "127.0.0.1:9", "cql_deadline_s": 1.0}

    async def test_the_gateway_starts_and_answers(self, person: Person) -> None:
        answer = await ask(person, "Is anybody there?")
        assert await told(person, answer["conversation_id"]) == [
            "Is anybody there?",
            "Two years [1].",
        ]
        assert (await chat_log_of(person))["chat_log"] == "unavailable"

    async def test_a_conversation_goes_on_without_what_lies_in_the_cluster(
        self, person: Person, plane: FakePlane, admin: asyncpg.Connection
    ) -> None:
        first = await ask(person, "What is a heron?")
        assert not first["has_partial_history"]
        place = {"conversation_id": first["conversation_id"]}
        await admin.execute("DELETE FROM outbox")  # as if all of it had reached the cluster
        await answered_elsewhere(admin)
        plane.summary = ("It was about nothing.", 3)
        answer = await ask(person, "Where does it live?", **place)
        assert answer["has_partial_history"]
        assert plane.asked[-1].history == ()
        kept = await admin.fetchval("SELECT summary FROM conversations")
        assert kept == "", "what was not read is not summed up"

        await ask(person, "And in winter?", **place)
        assert [turn.content for turn in plane.asked[-1].history] == [
            "Where does it live?",
            "Two years [1].",
        ]
        page = await person.http.get(f"/conversations/{first['conversation_id']}/messages")
        assert page.status_code == 503
        assert page.headers["retry-after"]
