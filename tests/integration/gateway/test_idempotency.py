"""Requests that are sent again: one effect, one bill, the same answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from planes.shared.domain import TenantContext
from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.postgres import Database
from services.gateway.app import create_app
from services.gateway.chat.schemas import ConversationInput
from services.gateway.idempotency.models import RequestId
from services.gateway.idempotency.service import Effect, IdempotencyService, Replayed
from tests.integration.gateway.conftest import Gateway, Person, served, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.test_chat import events_of, usage_of

REPLAYED = "idempotency-replayed"
QUESTION = {"model": "polyplane", "messages": [{"role": "user", "content": "How long?"}]}

# Which POST operations take no key, and why not.
WITHOUT_KEY = {
    "/auth/": "what they answer is secret and not stored",  # as is what `/webhooks` answers
    "/search": "has no effect",
    "/billing/webhooks/": "the provider's event id makes it idempotent",
}


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


@pytest.fixture
async def second(gateway: Gateway) -> AsyncIterator[str]:
    """Another gateway on the same stores."""
    async with served(create_app(gateway.app.state.settings)) as url:
        yield url


@pytest.fixture
async def requests(database_urls: dict[str, str]) -> AsyncIterator[IdempotencyService]:
    database = Database(database_urls["gateway"], service="test-gateway")
    await database.open()
    yield IdempotencyService(database)
    await database.close()


def keyed(key: str | None = None) -> dict[str, str]:
    return {"idempotency-key": key or str(uuid4())}


async def upload(person: Person, key: dict[str, str], content: bytes, **data: Any) -> Any:
    files = {"file": ("a.txt", content)}
    return await person.http.post("/documents", headers=key, files=files, data=data)


def assert_replayed(first: httpx.Response, again: httpx.Response) -> None:
    assert again.status_code == first.status_code, again.text
    assert again.json() == first.json()
    assert again.headers[REPLAYED] == "true"
    assert REPLAYED not in first.headers


async def test_every_post_takes_a_key_or_says_why_not(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        document = (await http.get("/openapi.json")).json()
    missing = []  # below /v1 what is invalid is a 400, as OpenAI's clients know it
    for path, operations in document["paths"].items():
        post = operations.get("post")
        if post is None or path == "/webhooks" or path.startswith(tuple(WITHOUT_KEY)):
            continue
        headers = {each["name"] for each in post.get("parameters", []) if each["in"] == "header"}
        refusals = {"400", "409"} if path.startswith("/v1/") else {"400", "409", "422"}
        if "Idempotency-Key" not in headers or not refusals <= set(post["responses"]):
            missing.append(path)
    assert not missing, "these have an effect and take no key, or do not document 400, 409, 422"


async def test_a_conversation_is_made_once(person: Person) -> None:
    key, body = keyed(), {"title": "herons", "mode": "rag"}
    first = await person.http.post("/conversations", headers=key, json=body)
    again = await person.http.post(
        "/conversations",
        headers={**key, "content-type": "application/json"},
        content=b' {"mode":"rag",   "title":"\\u0068erons"}',
    )
    assert_replayed(first, again)
    assert again.content == first.content
    assert len((await person.http.get("/conversations")).json()["items"]) == 1


async def test_a_key_names_one_request(person: Person) -> None:
    key = keyed("a key with blanks")
    await person.http.post("/conversations", headers=key, json={"title": "one"})
    for path, body in (
        ("/conversations", {"title": "two"}),
        ("/conversations", {}),
        ("/api/v1/conversations", {"title": "one"}),
        ("/chat", {"message": "one"}),
    ):
        other = await person.http.post(path, headers=key, json=body)
        assert other.status_code == 422, path
        assert "Idempotency-Key" in other.json()["detail"]
    quoted = keyed('"a key with blanks"')
    again = await person.http.post("/conversations", headers=quoted, json={"title": "one"})
    assert again.headers[REPLAYED] == "true"


@pytest.mark.parametrize("key", ["", "x" * 256, '"half', "umläut".encode("latin-1")])
async def test_a_malformed_key_is_refused(person: Person, key: str | bytes) -> None:
    answer = await person.http.post("/conversations", headers={"idempotency-key": key}, json={})
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"


async def test_another_tenants_key_is_another_key(person: Person, stranger: Person) -> None:
    key = keyed()
    mine = await person.http.post("/conversations", headers=key, json={"title": "mine"})
    theirs = await stranger.http.post("/conversations", headers=key, json={"title": "theirs"})
    assert mine.status_code == theirs.status_code == 201
    assert mine.json()["id"] != theirs.json()["id"]
    assert REPLAYED not in theirs.headers


async def test_programs_repeat_requests_with_an_api_key(person: Person) -> None:
    wanted = {"name": "a program", "scopes": ["chat"]}
    made = (await person.http.post("/auth/api-keys", json=wanted)).json()
    headers = {**keyed(), "authorization": f"Bearer {made['key']}"}
    body = {"message": "How long?"}
    first = await person.http.post("/chat", headers=headers, json=body)
    assert first.status_code == 200, first.text
    assert_replayed(first, await person.http.post("/chat", headers=headers, json=body))


async def test_an_upload_is_accepted_once_whatever_its_boundary(person: Person) -> None:
    key = keyed()
    first = await upload(person, key, b"hello", tags=["x", "y"], metadata='{"a": 1, "b": 2}')
    again = await upload(person, key, b"hello", tags=["y", "x"], metadata='{"b":2,"a":1}')
    assert first.status_code == 202, first.text
    assert_replayed(first, again)
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    for content, data in ((b"hullo", {}), (b"hello", {"tags": ["x"]})):
        assert (await upload(person, key, content, **data)).status_code == 422


async def test_an_answer_is_told_again_whole_and_costs_nothing(
    person: Person, plane: FakePlane
) -> None:
    key, body = keyed(), {"message": "How long is the warranty?"}
    first = await person.http.post("/chat", headers=key, json=body)
    billed = await usage_of(person)
    again = await person.http.post("/chat", headers=key, json=body)
    assert_replayed(first, again)
    assert again.content == first.content
    assert len(plane.asked) == 1
    assert await usage_of(person) == billed
    streamed = await person.http.post("/chat", headers=key, json={**body, "stream": True})
    assert streamed.status_code == 422, "whole and as events are two requests"
    accepting = {**key, "accept": "text/event-stream"}
    assert (await person.http.post("/chat", headers=accepting, json=body)).status_code == 422


async def test_a_stream_is_told_again_as_events(person: Person, plane: FakePlane) -> None:
    key, body = keyed(), {"message": "How long?", "stream": True}
    tellings = []
    for _ in range(2):
        async with person.http.stream("POST", "/chat", headers=key, json=body) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            tellings.append([event async for event in events_of(response)])
    first, again = tellings
    assert response.headers[REPLAYED] == "true"
    assert [name for _, name, _ in again] == ["meta", "delta", "usage", "done"]
    assert again[0][2] == first[0][2]
    assert again[1][2]["text"] == "".join(e["text"] for _, name, e in first if name == "delta")
    assert [data for _, _, data in again[-2:]] == [data for _, _, data in first[-2:]]
    assert len(plane.asked) == 1


async def test_a_message_in_a_conversation_is_answered_once(person: Person) -> None:
    made = (await person.http.post("/conversations", json={})).json()
    path, key = f"/conversations/{made['id']}/messages", keyed()
    first = await person.http.post(path, headers=key, json={"message": "one"})
    await person.http.post(path, json={"message": "two"})
    again = await person.http.post(path, headers=key, json={"message": "one"})
    assert_replayed(first, again)
    assert (await person.http.get(path.removesuffix("/messages"))).json()["message_count"] == 4


async def test_a_conversation_with_a_message_is_told_again_as_it_was(person: Person) -> None:
    key, body = keyed(), {"message": "How long?", "title": "Warranty"}
    first = await person.http.post("/conversations", headers=key, json=body)
    path = f"/conversations/{first.json()['id']}"
    await person.http.post(f"{path}/messages", json={"message": "And then?"})
    await person.http.patch(path, json={"title": "Other", "mode": "open"})
    again = await person.http.post("/conversations", headers=key, json=body)
    assert first.status_code == 201
    assert_replayed(first, again)
    assert again.content == first.content
    assert (await person.http.delete(path)).status_code == 204
    gone = await person.http.post("/conversations", headers=key, json=body)
    assert gone.status_code == 404, "what was deleted is not told again"


@pytest.mark.parametrize(
    ("path", "body", "changed"),
    [
        ("/chat", {"message": "How long?"}, {"message": "Why?"}),
        ("/query", {"query": "How long?"}, {"query": "Why?"}),
        ("/conversations", {"message": "How long?"}, {"message": "Why?"}),
        ("/v1/chat/completions", QUESTION, QUESTION | {"max_tokens": 9}),
    ],
)
async def test_a_request_in_flight_answers_409_and_is_kept_for_who_obeys(
    person: Person, plane: FakePlane, path: str, body: dict[str, Any], changed: dict[str, Any]
) -> None:
    plane.hold, key = asyncio.Event(), keyed()
    first = asyncio.create_task(person.http.post(path, headers=key, json=body))

    async def asked() -> bool:
        return len(plane.asked) == 1

    await until(asked)
    second = await person.http.post(path, headers=key, json=body)
    other = await person.http.post(path, headers=key, json=changed)
    plane.hold.set()
    assert second.status_code == 409
    assert second.headers["retry-after"] == "5", "within the grace of 10 s"
    assert other.status_code == (400 if path.startswith("/v1/") else 422)
    assert_replayed(await first, await person.http.post(path, headers=key, json=body))


async def test_what_failed_before_its_effect_may_be_repeated(
    person: Person, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    key, body = keyed(), {"message": "How long?"}
    plane.words, plane.ends_with = [], "error"
    assert (await person.http.post("/chat", headers=key, json=body)).status_code == 503
    plane.words, plane.ends_with = ["Two"], "done"
    answer = await person.http.post("/chat", headers=key, json=body)
    assert answer.status_code == 200
    assert REPLAYED not in answer.headers

    key = keyed()
    assert (await upload(person, key, b"")).status_code == 422
    assert (await upload(person, key, b"hello")).status_code == 202, "a refused key is free"

    key = keyed()
    absent = await person.http.post(
        "/chat", headers=key, json={"message": "Hi", "conversation_id": str(uuid4())}
    )
    assert absent.status_code == 404
    assert (await person.http.post("/chat", headers=key, json={"message": "Hi"})).is_success
    wrong = await person.http.post("/chat", headers=keyed(), json={"message": ""})
    assert wrong.status_code == 422
    assert await admin.fetchval("SELECT count(*) FROM idempotent_requests") == 3


async def test_an_answer_that_broke_off_is_told_as_far_as_it_was_billed(
    person: Person, plane: FakePlane
) -> None:
    plane.ends_with = "silence"
    key, body = keyed(), {"message": "How long?"}
    assert (await person.http.post("/chat", headers=key, json=body)).status_code == 503
    billed = await usage_of(person)
    assert billed["totals"]["completion_tokens"] == 3
    again = await person.http.post("/chat", headers=key, json=body)
    assert again.status_code == 200
    assert again.json()["finish_reason"] == "cancelled"
    assert again.json()["message"]["content"] == "Two years [1]."
    assert await usage_of(person) == billed


async def test_the_answer_of_a_gateway_that_died_is_told_once_it_is_swept(
    person: Person, plane: FakePlane, admin: asyncpg.Connection
) -> None:
    plane.hold = asyncio.Event()
    key, body = keyed(), {"message": "How long?"}
    first = asyncio.create_task(person.http.post("/chat", headers=key, json=body))

    async def checkpointed() -> bool:
        return bool(
            await admin.fetchval("SELECT count(*) FROM reservations WHERE completion_tokens = 3")
        )

    await until(checkpointed)
    await admin.execute("UPDATE reservations SET expires_at = now() + interval '30 seconds'")
    waiting = await person.http.post("/chat", headers=key, json=body)
    assert waiting.status_code == 409
    assert 25 <= int(waiting.headers["retry-after"]) <= 30
    await admin.execute("UPDATE reservations SET expires_at = now()")
    late = await person.http.post("/chat", headers=key, json=body)
    assert (late.status_code, late.headers["retry-after"]) == (409, "1"), "the sweeper comes"
    await admin.execute("SELECT sweep_reservations(1)")
    again = await person.http.post("/chat", headers=key, json=body)
    plane.hold.set()
    await first
    assert again.status_code == 200
    assert again.json()["finish_reason"] == "cancelled"
    assert again.json()["usage"]["completion_tokens"] == 3
    assert again.json()["model"] == plane.model, "the price of the model that answered"
    assert (await usage_of(person))["totals"]["messages"] == 1


async def test_without_a_key_nothing_is_stored(person: Person, admin: asyncpg.Connection) -> None:
    await person.http.post("/conversations", json={"title": "one"})
    await person.http.post("/chat", json={"message": "one"})
    await upload(person, {}, b"hello")
    assert await admin.fetchval("SELECT count(*) FROM idempotent_requests") == 0


async def test_a_key_is_forgotten_after_a_day(
    person: Person, admin: asyncpg.Connection, requests: IdempotencyService
) -> None:
    key = keyed()
    await person.http.post("/conversations", headers=key, json={"title": "one"})
    await admin.execute(
        "UPDATE idempotent_requests SET created_at = created_at - interval '23 hours 59 minutes'"
    )
    assert await requests.forget_expired() == 0
    other = await person.http.post("/conversations", headers=key, json={"title": "two"})
    assert other.status_code == 422
    await admin.execute("UPDATE idempotent_requests SET created_at = created_at - interval '1 min'")
    other = await person.http.post("/conversations", headers=key, json={"title": "two"})
    assert other.status_code == 201, "free even before it is swept"
    await admin.execute("UPDATE idempotent_requests SET created_at = created_at - interval '1 day'")
    assert await requests.forget_expired() == 1
    assert await admin.fetchval("SELECT count(*) FROM idempotent_requests") == 0


async def test_a_dead_attempt_frees_its_key_and_never_has_its_effect(
    person: Person, requests: IdempotencyService, admin: asyncpg.Connection, gateway: Gateway
) -> None:
    context = TenantContext(UUID(person.tenant_id), UUID(person.user_id))
    conversations, wanted = gateway.app.state.conversations, ConversationInput(title="once")
    async with (
        AsyncExitStack() as held
    ):  # an attempt that hangs, or dies, does neither end nor fail

        async def take(content: bytes) -> Effect:
            return await held.enter_async_context(
                requests.attempt(RequestId(context, "a key"), content)
            )

        dead = await take(b"content")
        with pytest.raises(Conflict):
            await take(b"content")
        with pytest.raises(InvalidInput):
            await take(b"other")
        await admin.execute("UPDATE idempotent_requests SET locked_until = now() + interval '9 s'")
        with pytest.raises(Conflict) as refusal:
            await take(b"content")
        assert refusal.value.retry_after_s in {8, 9}
        await admin.execute("UPDATE idempotent_requests SET locked_until = now()")
        retry = await take(b"other")
        with pytest.raises(Conflict):
            await conversations.create(context, wanted, dead)
        await conversations.create(context, wanted, retry)
        with pytest.raises(Conflict):
            await conversations.create(context, wanted, dead)
        with pytest.raises(Replayed):
            await take(b"other")
    assert len((await person.http.get("/conversations")).json()["items"]) == 1


async def send_everywhere(
    person: Person, urls: tuple[str, str], count: int, **sent: Any
) -> list[httpx.Response]:
    """Send one request many times at once, to two gateways."""
    limits = httpx.Limits(max_connections=count, max_keepalive_connections=0)
    headers = {"authorization": person.http.headers["authorization"], **sent.pop("headers")}
    async with httpx.AsyncClient(limits=limits, timeout=30, headers=headers) as http:
        path = sent.pop("path")
        tasks = [http.post(f"{urls[n % 2]}{path}", **sent) for n in range(count)]
        return list(await asyncio.gather(*tasks))


@pytest.mark.parametrize(
    ("sent", "status", "table"),
    [
        ({"path": "/chat", "json": {"message": "How long?"}}, 200, "ledger"),
        ({"path": "/conversations", "json": {"title": "one"}}, 201, "conversations"),
        ({"path": "/documents", "files": {"file": ("a.txt", b"hello")}}, 202, "documents"),
    ],
)
async def test_fifty_at_once_over_two_gateways_have_one_effect(  # noqa: PLR0917
    person: Person,
    gateway: Gateway,
    second: str,
    admin: asyncpg.Connection,
    plane: FakePlane,
    sent: dict[str, Any],
    status: int,
    table: str,
) -> None:
    plane.pause_s = 0.05
    urls, key = (gateway.url, second), keyed()
    answers = await send_everywhere(person, urls, 50, headers=key, **sent)
    codes = {answer.status_code for answer in answers}
    assert codes <= {status, 409, 503}, "a machine that is too busy says 503, without an effect"
    done = [answer for answer in answers if answer.status_code == status]
    originals = [answer for answer in done if REPLAYED not in answer.headers]
    assert len(originals) == 1
    assert all(answer.json() == originals[0].json() for answer in done)
    assert await admin.fetchval(f"SELECT count(*) FROM {table}") == 1  # noqa: S608
    assert len(plane.asked) == (1 if table == "ledger" else 0)
    assert await admin.fetchval("SELECT count(*) FROM reservations") == 0
