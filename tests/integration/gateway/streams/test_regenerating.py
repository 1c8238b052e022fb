"""Another answer to the last question: it takes the old one's place, and both are paid for."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest

from tests.integration.gateway.conftest import Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.streams.conftest import Reading
from tests.integration.gateway.test_chat import messages_of, usage_of


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"chat_resume_grace_s": 0.3}


async def test_the_newest_answer_is_read_and_remembered_and_both_are_billed(
    person: Person, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    first = (await person.http.post("/chat", json={"message": "What is a heron?"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    key = {"idempotency-key": str(uuid4())}
    second = await person.http.post(path, json={"message": "Where?"}, headers=key)
    for words in (["In", " reeds."], ["By", " lakes."]):
        plane.words = words
        again = await person.http.post(path, json={"regenerate": True})
        assert again.status_code == 200, again.text
        contents = [m["content"] for m in await messages_of(person, first["conversation_id"])]
        assert contents == ["What is a heron?", "Two years [1].", "Where?", "".join(words)]
    request = plane.asked[-1]
    assert request.message == "Where?"
    assert request.fresh
    assert [turn.content for turn in request.history] == ["What is a heron?", "Two years [1]."]
    await person.http.post(path, json={"message": "Why?"})
    assert [turn.content for turn in plane.asked[-1].history][-1] == "By lakes."
    assert (await usage_of(person))["totals"]["messages"] == 5
    assert await admin.fetchval("SELECT count(*) FROM ledger WHERE kind = 'answer'") == 5
    conversation = (await person.http.get(path.removesuffix("/messages"))).json()
    assert conversation["message_count"] == 6
    told = await person.http.post(path, json={"message": "Where?"}, headers=key)
    assert told.json() == second.json(), "a repeated request is told what it was"

    async def logged() -> bool:
        return not await admin.fetchval("SELECT count(*) FROM outbox")

    await until(logged)
    page = (await person.http.get(path, params={"limit": 4})).json()
    assert [m["content"] for m in page["items"]] == [*contents[:3], "By lakes."]
    assert (await person.http.post(path, json={"message": "Where?"}, headers=key)).json() == (
        second.json()
    )


async def test_the_message_may_be_said_again_but_no_other(person: Person) -> None:
    first = (await person.http.post("/chat", json={"message": "What is a heron?"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    body = {"regenerate": True, "message": "What is a heron?"}
    assert (await person.http.post(path, json=body)).status_code == 200
    other = await person.http.post(path, json={**body, "message": "What is a crane?"})
    assert other.status_code == 422
    assert (await person.http.post(path, json={})).status_code == 422
    empty = (await person.http.post("/conversations", json={})).json()
    nothing = await person.http.post(
        f"/conversations/{empty['id']}/messages", json={"regenerate": True}
    )
    assert nothing.status_code == 409
    foreign = await person.http.post(
        f"/conversations/{uuid4()}/messages", json={"regenerate": True}
    )
    assert foreign.status_code == 404


async def test_a_question_whose_answer_failed_gets_one(person: Person, plane: FakePlane) -> None:
    plane.words, plane.ends_with = [], "error"
    failed = await Reading(person).ask()
    assert failed.last == "error"
    plane.words, plane.ends_with = ["Two"], "done"
    path = f"/conversations/{failed.conversation_id}/messages"
    reading = await Reading(person).ask(
        path=path, json={"regenerate": True, "message": "How long?"}
    )
    assert reading.last == "done"
    contents = [m["content"] for m in await messages_of(person, failed.conversation_id)]
    assert contents == ["How long?", "Two"]


async def test_an_attempt_that_fails_leaves_the_old_answer_and_the_quota(
    person: Person, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    first = (await person.http.post("/chat", json={"message": "How long?"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    plane.words, plane.ends_with = [], "error"
    for body in ({"regenerate": True}, {"regenerate": True, "stream": True}):
        await person.http.post(path, json=body)
        contents = [m["content"] for m in await messages_of(person, first["conversation_id"])]
        assert contents == ["How long?", "Two years [1]."]
    conversation = (await person.http.get(path.removesuffix("/messages"))).json()
    assert conversation["message_count"] == 2
    quota = await admin.fetchrow("SELECT * FROM quota_periods")
    assert (quota["messages_used"], quota["messages_reserved"], quota["tokens_reserved"]) == (
        1,
        0,
        0,
    )


async def test_while_an_answer_is_under_way_there_is_no_other(
    person: Person, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    reading = asyncio.create_task(Reading(person).ask())

    async def asked() -> bool:
        return bool(plane.asked)

    await until(asked)
    path = f"/conversations/{plane.asked[0].conversation_id}/messages"
    refused = await person.http.post(path, json={"regenerate": True})
    assert refused.status_code == 409
    plane.hold.set()
    assert (await reading).last == "done"
    answers = await asyncio.gather(
        *(person.http.post(path, json={"regenerate": True}) for _ in range(4))
    )
    codes = {answer.status_code for answer in answers}
    assert codes <= {200, 409}
    assert 200 in codes
    assert len(await messages_of(person, str(plane.asked[0].conversation_id))) == 2
