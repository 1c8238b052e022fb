"""Jobs as server-sent events: told when they change, to the end, and to nobody who may not know."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import pytest

from services.gateway.jobs import watching
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.test_jobs import admin, become, job, job_over, uploaded  # noqa: F401

pytestmark = pytest.mark.integration

Event = tuple[int, str, dict[str, Any]]


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_job_streams": 250, "database_connections": 4}


async def events_of(response: httpx.Response) -> AsyncIterator[Event]:
    """Read a stream as the standard says (WHATWG HTML, 9.2), without comments and retries."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield int(fields["id"]), fields["event"], orjson.loads(fields["data"])
            fields = {}


class Stream:
    """A client that follows a job."""

    def __init__(self, response: httpx.Response) -> None:
        self.events: list[Event] = []
        self._response = response
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for event in events_of(self._response):
            self.events.append(event)

    async def to_the_end(self) -> list[Event]:
        async with asyncio.timeout(15):
            await self._task
        return self.events

    async def has(self, count: int) -> None:
        async def has_come() -> bool:
            return len(self.events) >= count

        await until(has_come)

    def stop(self) -> None:
        self._task.cancel()


@asynccontextmanager
async def following(person: Person, job_id: str, **headers: str) -> AsyncIterator[Stream]:
    path = f"/jobs/{job_id}/events"
    async with person.http.stream("GET", path, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        stream = Stream(response)
        yield stream
        stream.stop()


async def test_a_job_is_told_from_now_to_its_end(
    person: Person,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    document_id, job_id = await uploaded(person)
    async with following(person, job_id) as stream:
        await stream.has(1)
        await become(admin, document_id, "embedding", 50)
        await stream.has(2)
        await become(admin, document_id, "ready", 100)
        events = await stream.to_the_end()
    assert [number for number, _, _ in events] == list(range(1, len(events) + 1))
    assert {name for _, name, _ in events} == {"job"}
    assert [data["status"] for _, _, data in events] == ["queued", "running", "succeeded"]
    assert events[-1][2] == await job(person, job_id)


async def test_a_job_that_has_ended_is_told_once_whatever_came_last(
    person: Person,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    document_id, job_id = await uploaded(person)
    await become(admin, document_id, "failed")
    async with following(person, job_id, **{"last-event-id": "7"}) as stream:
        [(number, _, data)] = await stream.to_the_end()
    assert (number, data["status"]) == (8, "failed")
    async with following(person, job_id, **{"last-event-id": "what?"}) as stream:
        assert len(await stream.to_the_end()) == 1


async def test_cancelling_and_deleting_end_the_stream(person: Person) -> None:
    _, first = await uploaded(person, b"one")
    document_id, second = await uploaded(person, b"two")
    async with following(person, first) as one, following(person, second) as two:
        await person.http.post(f"/jobs/{first}/cancel")
        await person.http.delete(f"/documents/{document_id}")
        assert (await one.to_the_end())[-1][2]["status"] == "cancelled"
        told = (await two.to_the_end())[-1][2]
    assert (told["status"], told["documents"][0]["status"]) == ("cancelled", "deleted")


async def test_a_stream_ends_with_the_session(person: Person) -> None:
    _, job_id = await uploaded(person)
    async with following(person, job_id) as stream:
        await stream.has(1)
        assert (await person.http.post("/auth/logout")).status_code == 204
        _, name, data = (await stream.to_the_end())[-1]
    assert (name, data["status"]) == ("error", 401)


async def test_nobody_follows_another_tenants_job(person: Person, stranger: Person) -> None:
    _, job_id = await uploaded(person)
    assert (await stranger.http.get(f"/jobs/{job_id}/events")).status_code == 404


async def test_streams_are_limited_and_given_back(
    person: Person, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_MOST_OF_USER", 2)
    _, job_id = await uploaded(person)
    async with following(person, job_id):
        async with following(person, job_id):
            refused = await person.http.get(f"/jobs/{job_id}/events")
            assert refused.status_code == 429
            assert refused.headers["retry-after"]

        async def is_free() -> bool:
            return gateway.app.state.job_watch.open_streams == 1

        await until(is_free)
        async with following(person, job_id) as stream:
            await stream.has(1)


async def test_an_open_stream_is_kept_alive(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_HEARTBEAT_S", 0.05)
    _, job_id = await uploaded(person)
    async with person.http.stream("GET", f"/jobs/{job_id}/events") as response:
        async for line in response.aiter_lines():
            if line.startswith(":"):
                break


async def test_two_hundred_streams_cost_one_look_and_hold_no_connection(
    gateway: Gateway,
    person: Person,
    admin: asyncpg.Connection,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watching, "_MOST_OF_USER", 200)
    document_id, job_id = await uploaded(person)
    jobs = [job_id, *[await job_over(admin, person, document_id) for _ in range(9)]]
    limits = httpx.Limits(max_connections=220)
    async with httpx.AsyncClient(
        base_url=gateway.url, headers=person.http.headers, limits=limits, timeout=30
    ) as http:
        everybody = Person(http, person.user_id, person.tenant_id)
        contexts = [following(everybody, jobs[n % 10]) for n in range(200)]
        streams = [await context.__aenter__() for context in contexts]
        for stream in streams:
            await stream.has(1)
        busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'polyplane_gateway' AND {}"
        assert await admin.fetchval(busy.format("state = 'idle in transaction'")) == 0
        assert await admin.fetchval(busy.format("true")) <= 4
        looks = await admin.fetchval(
            "SELECT count(*) FROM jobs WHERE id = ANY ($1)", [UUID(each) for each in jobs]
        )
        assert looks == 10
        await become(admin, document_id, "ready", 100)
        for stream in streams:
            assert (await stream.to_the_end())[-1][2]["status"] == "succeeded"
        for context in contexts:
            await context.__aexit__(None, None, None)
