"""Questions and answers through the gateway: metered, stored, and nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import orjson
import pytest

from planes.shared.wire import TextSpan
from tests.integration.gateway.conftest import Person, until
from tests.integration.gateway.plane import FakePlane


@pytest.fixture
def overrides() -> dict[str, object]:
    """A short grace for clients that hang up and do not come back."""
    return {"chat_resume_grace_s": 0.3}


async def events_of(response: httpx.Response) -> AsyncIterator[tuple[int, str, dict[str, Any]]]:
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield int(fields["id"]), fields["event"], orjson.loads(fields["data"])
            fields = {}


async def usage_of(person: Person) -> dict[str, Any]:
    answer = await person.http.get("/billing/usage")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def messages_of(person: Person, conversation_id: str) -> list[dict[str, Any]]:
    answer = await person.http.get(f"/conversations/{conversation_id}/messages")
    assert answer.status_code == 200, answer.text
    return answer.json()["items"]


async def test_the_serving_plane_works_in_its_callers_trace(
    person: Person, plane: FakePlane
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    caller = f"00-{trace}-00f067aa0ba902b7-01"
    question = {"message": "How long is the warranty?"}
    await person.http.post("/chat", json=question, headers={"traceparent": caller})
    for header in ({}, {"traceparent": f"00-{trace}-{'0' * 16}-01"}):
        answer = await person.http.post("/chat", json=question, headers=header)
        new = answer.headers["x-request-id"]
        assert new != trace
        version, told, _, flags = plane.traceparents[-1].split("-")
        assert (version, told, flags) == ("00", new, "00"), "nobody records the gateway's part"
    assert plane.traceparents[0] == caller


async def test_an_answer_is_billed_to_the_token_and_stored(person: Person) -> None:
    response = await person.http.post("/chat", json={"message": "How long is the warranty?"})
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["message"]["content"] == "Two years [1]."
    assert answer["usage"]["prompt_tokens"] == 40
    assert answer["usage"]["completion_tokens"] == 3
    # the price of models without a row of their own: $0.10 and $0.40 a million tokens
    expected = 40 * Decimal("0.0000001") + 3 * Decimal("0.0000004")
    assert Decimal(answer["usage"]["cost_usd"]) == expected

    usage = await usage_of(person)
    assert usage["totals"]["messages"] == 1
    assert usage["totals"]["total_tokens"] == 43
    assert Decimal(usage["totals"]["cost_usd"]) == expected
    assert usage["quotas"]["tokens"]["used"] == 43, "the reservation is given back"
    assert usage["items"][0]["total_tokens"] == 43

    question, stored = await messages_of(person, answer["conversation_id"])
    assert question["content"] == "How long is the warranty?"
    assert stored["content"] == "Two years [1]."
    assert stored["usage"] == answer["usage"]
    assert stored["created_at"] == answer["message"]["created_at"]
    conversation = (await person.http.get(f"/conversations/{answer['conversation_id']}")).json()
    assert conversation["title"] == "How long is the warranty?"
    assert conversation["message_count"] == 2


async def test_a_stream_ends_with_done_after_the_answer_is_settled(person: Person) -> None:
    body = {"message": "How long?", "stream": True}
    async with person.http.stream("POST", "/chat", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [event async for event in events_of(response)]
    names = [name for _, name, _ in events]
    assert names == ["meta", *["delta", "usage"] * 3, "done"]
    numbers = [number for number, _, _ in events]
    assert numbers == sorted(set(numbers)), "ids rise"
    done = events[-1][2]
    assert "content" not in done["message"]
    assert done["usage"]["cost_usd"] == events[-2][2]["cost_usd"]
    assert (await usage_of(person))["totals"]["total_tokens"] == done["usage"]["total_tokens"]


async def test_unsupported_sentences_are_told_at_once_and_later(
    person: Person, plane: FakePlane
) -> None:
    plane.unsupported = [TextSpan(start=0, end=9)]
    answer = (await person.http.post("/chat", json={"message": "How long?"})).json()
    assert answer["unsupported"] == [{"start": 0, "end": 9}]
    _, stored = await messages_of(person, answer["conversation_id"])
    assert stored["unsupported"] == answer["unsupported"]


async def test_history_goes_with_a_follow_up(person: Person, plane: FakePlane) -> None:
    first = (await person.http.post("/chat", json={"message": "What is a heron?"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    await person.http.post(path, json={"message": "Where does it live?"})
    assert [(turn.role, turn.content) for turn in plane.asked[1].history] == [
        ("user", "What is a heron?"),
        ("assistant", "Two years [1]."),
    ]
    contents = [m["content"] for m in await messages_of(person, first["conversation_id"])]
    assert contents == [
        "What is a heron?",
        "Two years [1].",
        "Where does it live?",
        "Two years [1].",
    ]


async def test_what_leaves_the_window_is_summed_up_once_and_goes_with_later_questions(
    person: Person, plane: FakePlane
) -> None:
    first = (await person.http.post("/chat", json={"message": "1"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    for n in range(2, 7):
        await person.http.post(path, json={"message": str(n)})
    plane.summary = ("They counted \x00to four.", 8)
    await person.http.post(path, json={"message": "7"})
    assert [turn.seq for turn in plane.asked[-1].history] == list(range(1, 13))
    plane.summary = ("It was told before.", 6)  # less than what is kept
    await person.http.post(path, json={"regenerate": True})
    assert [turn.seq for turn in plane.asked[-1].history] == list(range(3, 13))
    await person.http.post(path, json={"message": "8"})
    assert [turn.seq for turn in plane.asked[-1].history] == list(range(5, 15))
    told = [(asked.summary, asked.summary_seq) for asked in plane.asked[-3:]]
    assert told == [("", 0), ("They counted to four.", 8), ("They counted to four.", 8)]
    assert "counted" not in (await person.http.get(path.removesuffix("/messages"))).text
    assert len(await messages_of(person, first["conversation_id"])) == 16


async def test_without_a_language_model_nothing_is_summed_up(
    person: Person, plane: FakePlane
) -> None:
    plane.kind = "extractive"
    await person.http.get("/health")
    first = (await person.http.post("/chat", json={"message": "1"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    for n in range(2, 8):
        await person.http.post(path, json={"message": str(n)})
    assert [turn.seq for turn in plane.asked[-1].history] == list(range(3, 13))


async def test_messages_come_in_pages_oldest_first(person: Person) -> None:
    first = (await person.http.post("/chat", json={"message": "one"})).json()
    path = f"/conversations/{first['conversation_id']}/messages"
    await person.http.post(path, json={"message": "two"})
    page = (await person.http.get(path, params={"limit": 3})).json()
    rest = (await person.http.get(path, params={"cursor": page["next_cursor"]})).json()
    assert [m["content"] for m in page["items"]] == ["one", "Two years [1].", "two"]
    assert [m["role"] for m in rest["items"]] == ["assistant"]
    assert rest["next_cursor"] is None


async def test_a_hang_up_is_billed_for_what_was_produced(person: Person, plane: FakePlane) -> None:
    plane.hold = asyncio.Event()
    body = {"message": "How long?", "stream": True}
    async with person.http.stream("POST", "/chat", json=body) as response:
        seen = events_of(response)
        _, _, meta = await anext(seen)
        async for _, name, data in seen:
            if name == "usage" and data["completion_tokens"] == 3:
                break
    await asyncio.wait_for(plane.hung_up.wait(), 5)

    async def billed() -> bool:
        return (await usage_of(person))["totals"]["messages"] == 1

    await until(billed)
    usage = await usage_of(person)
    assert usage["totals"]["total_tokens"] == 43
    assert usage["quotas"]["tokens"]["used"] == 43
    _, stored = await messages_of(person, meta["conversation_id"])
    assert stored["content"] == "Two years [1]."
    assert stored["finish_reason"] == "cancelled"


async def test_a_plane_of_another_installation_is_none(person: Person, plane: FakePlane) -> None:
    plane.secret = "x" * 32
    for path, body in (("/chat", {"message": "How long?"}), ("/search", {"query": "How long?"})):
        response = await person.http.post(path, json=body)
        assert response.status_code == 503, "401 would send people to sign in again"
        assert "SERVING_TOKEN_SECRET" in response.json()["detail"]
    assert (await usage_of(person))["totals"]["messages"] == 0


async def test_an_error_before_the_first_token_costs_nothing_and_takes_the_question_back(
    person: Person, plane: FakePlane
) -> None:
    plane.words, plane.ends_with = [], "error"
    response = await person.http.post("/chat", json={"message": "How long?"})
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"] == "No model."
    usage = await usage_of(person)
    assert usage["totals"]["messages"] == 0
    assert usage["quotas"]["tokens"]["used"] == 0
    assert (await person.http.get("/conversations")).json()["items"] == []


async def test_a_stream_that_breaks_off_ends_with_an_error_and_is_billed(
    person: Person, plane: FakePlane
) -> None:
    plane.ends_with = "silence"
    body = {"message": "How long?", "stream": True}
    async with person.http.stream("POST", "/chat", json=body) as response:
        events = [event async for event in events_of(response)]
    assert events[-1][1] == "error"
    assert events[-1][2]["status"] == 503
    assert (await usage_of(person))["totals"]["total_tokens"] == 43


async def test_a_failed_stream_keeps_the_question_that_it_has_announced(
    person: Person, plane: FakePlane
) -> None:
    plane.words, plane.ends_with = [], "error"
    for _ in range(5):
        body = {"message": "How long?", "stream": True}
        async with person.http.stream("POST", "/chat", json=body) as response:
            events = [event async for event in events_of(response)]
        assert [name for _, name, _ in events] == ["meta", "error"]
        (question,) = await messages_of(person, events[0][2]["conversation_id"])
        assert question["content"] == "How long?"


async def test_a_model_that_writes_a_nul_is_answered_and_billed(
    person: Person, plane: FakePlane
) -> None:
    plane.words = ["Two\x00", " years"]
    answer = (await person.http.post("/chat", json={"message": "How long?"})).json()
    assert answer["usage"]["completion_tokens"] == 2
    _, stored = await messages_of(person, answer["conversation_id"])
    assert stored["content"] == "Two years"


async def test_a_long_answer_arrives_whole_however_slowly_it_is_read(
    person: Person, plane: FakePlane
) -> None:
    plane.words = [f"{number} " for number in range(1500)]
    body = {"message": "Count.", "stream": True}
    async with person.http.stream("POST", "/chat", json=body) as response:
        await asyncio.sleep(1)
        events = [event async for event in events_of(response)]
    text = "".join(data["text"] for _, name, data in events if name == "delta")
    assert text == "".join(plane.words)
    assert events[-1][1] == "done"


async def test_a_second_question_in_a_running_conversation_answers_409(
    person: Person, plane: FakePlane
) -> None:
    conversation = (await person.http.post("/conversations", json={})).json()
    path = f"/conversations/{conversation['id']}/messages"
    plane.hold = asyncio.Event()
    first = asyncio.create_task(person.http.post(path, json={"message": "one"}))

    async def asked() -> bool:
        return len(plane.asked) == 1

    await until(asked)
    second = await person.http.post(path, json={"message": "two"})
    plane.hold.set()
    assert second.status_code == 409
    assert (await first).status_code == 200


async def test_open_chat_without_a_language_model_names_the_setting(
    person: Person, plane: FakePlane
) -> None:
    plane.kind, plane.model = "extractive", "extractive"

    async def known() -> bool:
        health = (await person.http.get("/health/ready")).json()
        return health["parts"]["generator"]["model"] == "extractive"

    await until(known)
    response = await person.http.post("/chat", json={"message": "Hi", "mode": "open_chat"})
    assert response.status_code == 503
    assert response.json()["type"].endswith(":no-language-model")
    assert "SERVING_OPENAI_BASE_URL" in response.json()["detail"]


async def test_a_quota_of_messages_serves_exactly_so_many(
    person: Person, plane: FakePlane, database_urls: dict[str, str]
) -> None:
    connection = await asyncpg.connect(database_urls["admin"])
    await connection.execute("UPDATE plans SET messages_per_month = 5 WHERE name = 'free'")
    await connection.close()
    plane.pause_s = 0.02
    answers = await asyncio.gather(
        *(person.http.post("/chat", json={"message": f"question {n}"}) for n in range(12))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [200] * 5 + [402] * 7
    refused = next(answer for answer in answers if answer.status_code == 402)
    assert refused.json()["quota"] == "messages"
    assert (await usage_of(person))["quotas"]["messages"]["remaining"] == 0


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_another_tenants_conversation_is_absent(
    person: Person, stranger: Person, method: str
) -> None:
    made = (await person.http.post("/conversations", json={"title": "mine"})).json()
    body = {"json": {"title": "theirs"}} if method == "PATCH" else {}
    path = f"/conversations/{made['id']}"
    foreign = await stranger.http.request(method, path, **body)
    absent = await stranger.http.request(method, f"/conversations/{made['id'][:-4]}0000", **body)
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"] == absent.json()["detail"]
    asked = await stranger.http.post(f"{path}/messages", json={"message": "hello"})
    assert asked.status_code == 404
    assert (await person.http.get(path)).json()["title"] == "mine"


async def test_a_deleted_conversation_is_gone_with_its_messages(
    person: Person, database_urls: dict[str, str]
) -> None:
    answer = (await person.http.post("/chat", json={"message": "How long?"})).json()
    path = f"/conversations/{answer['conversation_id']}"
    assert (await person.http.delete(path)).status_code == 204
    assert (await person.http.get(path)).status_code == 404
    assert (await person.http.get(f"{path}/messages")).status_code == 404
    connection = await asyncpg.connect(database_urls["admin"])

    async def purged() -> bool:
        return not await connection.fetchval(
            "SELECT (SELECT count(*) FROM chat_messages) + (SELECT count(*) FROM outbox) "
            "+ (SELECT count(*) FROM conversations)"
        )

    await until(purged, seconds=15)
    assert await connection.fetchval("SELECT count(*) FROM ledger") == 1, "the bill stays"
    await connection.close()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"message": ""}, 422),
        ({"message": "   "}, 422),
        ({"message": "x" * 32_001}, 422),
        ({"message": "hi\x00"}, 422),
        ({"message": "hi", "top_k": 0}, 422),
        ({"message": "hi", "max_tokens": 10**9}, 422),
        ({"message": "hi", "tenant_id": "other"}, 422),
        ({"message": ["hi"]}, 422),
        ({"message": "hi", "conversation_id": "not-an-id"}, 422),
    ],
)
async def test_a_wrong_question_is_refused_with_its_field(
    person: Person, body: dict[str, object], status: int
) -> None:
    response = await person.http.post("/chat", json=body)
    assert response.status_code == status
    problem = response.json()
    assert problem["errors"][0]["pointer"].startswith("/body")
    assert problem["trace_id"] == response.headers["x-request-id"]


async def test_bodies_that_are_no_json_or_too_large_are_refused(person: Person) -> None:
    headers = {"content-type": "application/json"}
    broken = await person.http.post("/chat", content=b"{", headers=headers)
    assert broken.status_code == 400
    lone = await person.http.post("/chat", content=b'{"message": "\\ud800"}', headers=headers)
    assert lone.status_code == 422
    deep = await person.http.post("/chat", content=b"[" * 100_000, headers=headers)
    assert deep.status_code == 400
    large = await person.http.post("/chat", content=b" " * 2_000_000, headers=headers)
    assert large.status_code == 413
    for response in (broken, lone, deep, large):
        assert response.headers["content-type"] == "application/problem+json"


class TestThinking:
    """A model that says nothing of its answer for longer than the first token may take."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {"answer_first_token_s": 2.0}

    async def test_what_it_tells_before_prolongs_the_wait(
        self, person: Person, plane: FakePlane
    ) -> None:
        plane.thoughts, plane.pause_s = 6, 0.5
        answer = await person.http.post("/chat", json={"message": "How long?"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["finish_reason"] == "stop"
