"""Webhooks: signed, told at least once with the same id, and never sent into the house."""

import asyncio
import base64
import hashlib
import hmac
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.integration.gateway.conftest import NOBODY, Person, served, until
from tests.integration.gateway.processes import (  # noqa: F401
    TwoGateways,
    gateway_environment,
    two_gateways,
)
from tests.integration.gateway.tenants.conftest import Join, join  # noqa: F401
from tests.integration.gateway.test_jobs import admin, become, uploaded  # noqa: F401

pytestmark = pytest.mark.integration


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"outbound_networks": "127.0.0.0/8"}


@pytest.fixture
def gateway_environment() -> dict[str, str]:  # noqa: F811
    return {"GATEWAY_OUTBOUND_NETWORKS": "127.0.0.0/8"}


@dataclass
class Told:
    """What a receiver got."""

    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def type(self) -> str:
        return orjson.loads(self.body)["type"]

    @property
    def data(self) -> dict:
        return orjson.loads(self.body)["data"]

    def is_signed_with(self, secret: str) -> bool:
        """Check it as Standard Webhooks says, from its text alone."""
        key = base64.b64decode(secret.removeprefix("whsec_"))
        signed = b"%s.%s.%s" % (
            self.id.encode(),
            self.headers["webhook-timestamp"].encode(),
            self.body,
        )
        expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        is_fresh = abs(time.time() - int(self.headers["webhook-timestamp"])) < 60
        return is_fresh and self.headers["webhook-signature"].split() == [f"v1,{expected}"]


@dataclass
class Receiver:
    """Somebody's server."""

    url: str = ""
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    told: list[Told] = field(default_factory=list)

    async def answer(self, request: Request) -> Response:
        self.told.append(Told(dict(request.headers), await request.body()))
        return Response(b"x" * 100_000, self.status, self.headers)

    async def has(self, count: int) -> None:
        async def is_told() -> bool:
            return len(self.told) >= count

        await until(is_told)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    routes = [Route("/{path:path}", receiver.answer, methods=["POST", "GET"])]
    async with served(Starlette(routes=routes)) as url:
        receiver.url = f"{url}/hook?key=1"
        yield receiver


ALL = ["document.ready", "document.failed", "document.deleted", "job.finished"]


async def hooked(person: Person, url: str, *events: str) -> dict:
    body = {"url": url, "events": list(events) or ALL}
    answer = await person.http.post("/webhooks", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def shown(person: Person, hook: dict) -> dict:
    return (await person.http.get(f"/webhooks/{hook['id']}")).json()


async def make_due(admin: asyncpg.Connection) -> None:  # noqa: F811
    """Let the time pass that is between attempts."""
    await admin.execute("UPDATE webhooks SET retry_at = now()")
    await admin.execute(
        "UPDATE webhook_deliveries SET due_at = now(), lease_until = NULL WHERE state = 'waiting'"
    )


async def test_events_are_told_signed_to_those_who_want_them(
    person: Person,
    stranger: Person,
    receiver: Receiver,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    hook = await hooked(person, receiver.url)
    await hooked(stranger, receiver.url)
    await hooked(person, receiver.url, "document.deleted")
    ready, _ = await uploaded(person, b"one")
    failed, job_id = await uploaded(person, b"two")
    await become(admin, ready, "ready", 100)
    await become(admin, failed, "failed")
    await receiver.has(4)
    assert sorted(each.type for each in receiver.told) == [
        "document.failed",
        "document.ready",
        "job.finished",
        "job.finished",
    ]
    assert all(each.is_signed_with(hook["secret"]) for each in receiver.told)
    assert len({each.id for each in receiver.told}) == 4
    told = {each.type: each for each in receiver.told if each.data.get("job_id") in (None, job_id)}
    assert told["document.ready"].data["document_id"] == ready
    assert told["document.failed"].data["error"]["code"] == "corrupt"
    assert told["job.finished"].data["status"] == "failed"
    assert told["job.finished"].data["progress"]["failed"] == 1
    assert told["job.finished"].headers["content-type"] == "application/json"

    await person.http.delete(f"/documents/{ready}")
    await admin.execute("UPDATE deletions SET chunks = 3, files = 2, completed_at = now()")
    await receiver.has(6)
    for each in receiver.told[4:]:
        assert (each.type, each.data["removed"]["chunks"]) == ("document.deleted", 3)

    async def is_noted() -> bool:
        return (await shown(person, hook))["waiting"] == 0

    await until(is_noted)
    assert (await shown(person, hook))["last_status"] == 204
    body = "SELECT string_agg(w::text, '') FROM webhooks w"
    key = base64.b64decode(hook["secret"].removeprefix("whsec_")).hex()
    assert key not in await admin.fetchval(body), "the secret is sealed"


async def test_a_failure_is_repeated_with_the_same_id_and_then_succeeds(
    person: Person,
    receiver: Receiver,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    receiver.status = 500
    hook = await hooked(person, receiver.url, "document.ready")
    document_id, _ = await uploaded(person)
    await become(admin, document_id, "ready", 100)

    async def is_failing() -> bool:
        return (await shown(person, hook))["status"] == "failing"

    await until(is_failing)
    found = await shown(person, hook)
    assert (found["waiting"], found["last_status"], found["last_error"]) == (1, 500, "answered 500")
    receiver.status = 200
    await make_due(admin)

    async def is_active() -> bool:
        return (await shown(person, hook))["status"] == "active"

    await until(is_active)
    first, second = receiver.told
    assert first.id == second.id
    assert first.body == second.body
    assert second.is_signed_with(hook["secret"])
    assert (await shown(person, hook))["waiting"] == 0


async def test_redirects_are_failures_and_nobody_follows_them(
    person: Person,
    receiver: Receiver,
) -> None:
    receiver.status, receiver.headers = 307, {"location": receiver.url + "&followed=1"}
    hook = await hooked(person, receiver.url)
    answer = await person.http.post(f"/webhooks/{hook['id']}/test")
    assert answer.status_code == 202, answer.text

    async def is_failing() -> bool:
        return (await shown(person, hook))["status"] == "failing"

    await until(is_failing)
    assert len(receiver.told) == 1
    assert receiver.told[0].id == answer.json()["delivery_id"]
    assert (await shown(person, hook))["last_error"] == "redirects are not followed"


async def test_who_is_gone_is_paused_and_a_test_wakes_it(
    person: Person,
    receiver: Receiver,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    receiver.status = 410
    hook = await hooked(person, receiver.url, "document.ready")
    for number in range(2):
        document_id, _ = await uploaded(person, f"{number}".encode())
        await become(admin, document_id, "ready", 100)

    async def is_paused() -> bool:
        return (await shown(person, hook))["status"] == "paused"

    await until(is_paused)
    assert (await shown(person, hook))["waiting"] == 0
    told, receiver.status = len(receiver.told), 200
    document_id, _ = await uploaded(person, b"while it is paused")
    await become(admin, document_id, "ready", 100)
    assert (await shown(person, hook))["waiting"] == 0
    await person.http.post(f"/webhooks/{hook['id']}/test")

    async def is_active() -> bool:
        return (await shown(person, hook))["status"] == "active"

    await until(is_active)
    assert [each.type for each in receiver.told[told:]] == ["ping"]
    assert receiver.told[-1].is_signed_with(hook["secret"])


async def test_what_fails_for_days_is_given_up_and_pauses_the_webhook(
    person: Person,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    hook = await hooked(person, NOBODY, "document.ready")
    document_id, _ = await uploaded(person)
    await become(admin, document_id, "ready", 100)

    async def is_failing() -> bool:
        return (await shown(person, hook))["status"] == "failing"

    await until(is_failing)
    assert (await shown(person, hook))["last_status"] is None
    await admin.execute("UPDATE webhook_deliveries SET created_at = now() - interval '25 hours'")
    await make_due(admin)

    async def is_given_up() -> bool:
        return await admin.fetchval("SELECT state FROM webhook_deliveries") == "given-up"

    await until(is_given_up)
    assert (await shown(person, hook))["status"] == "failing"
    await admin.execute("UPDATE webhooks SET failing_since = now() - interval '4 days'")
    await person.http.post(f"/webhooks/{hook['id']}/test")

    async def is_paused() -> bool:
        return (await shown(person, hook))["status"] == "paused"

    await until(is_paused)


async def test_one_that_does_not_answer_holds_up_no_other(
    person: Person,
    stranger: Person,
    receiver: Receiver,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    slow = await hooked(person, NOBODY, "document.ready")
    await hooked(stranger, receiver.url, "document.ready")
    await admin.execute(
        "INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event, body) "
        "SELECT gen_random_uuid(), $1, $2, 'document.ready', '{}' FROM generate_series(1, 500)",
        UUID(person.tenant_id),
        UUID(slow["id"]),
    )
    document_id, _ = await uploaded(stranger)
    await become(admin, document_id, "ready", 100)
    await receiver.has(1)
    tried = await admin.fetchval(
        "SELECT sum(attempts) FROM webhook_deliveries WHERE webhook_id = $1", UUID(slow["id"])
    )
    assert tried < 50


async def test_a_gateway_killed_between_the_delivery_and_its_note_tells_it_again(
    two_gateways: TwoGateways,  # noqa: F811
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    told: list[Told] = []

    async def kill_then_answer(request: Request) -> Response:
        told.append(Told(dict(request.headers), await request.body()))
        if len(told) == 1:
            for process in two_gateways.processes:
                await process.kill()
        return Response(status_code=204)

    person = await two_gateways.register()
    async with served(Starlette(routes=[Route("/", kill_then_answer, methods=["POST"])])) as url:
        hook = await hooked(person, url, "document.ready")
        document_id, _ = await uploaded(person)
        await become(admin, document_id, "ready", 100)

        async def is_killed() -> bool:
            return all(
                each.process and each.process.returncode is not None
                for each in two_gateways.processes
            )

        await until(is_killed)
        assert await admin.fetchval("SELECT state FROM webhook_deliveries") == "waiting"
        await make_due(admin)
        await two_gateways.first.start()

        async def is_noted() -> bool:
            return await admin.fetchval("SELECT state FROM webhook_deliveries") == "delivered"

        await until(is_noted)
    assert len(told) == 2
    assert told[0].id == told[1].id
    assert all(each.is_signed_with(hook["secret"]) for each in told)


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[::1]:8000/",
        "http://[::ffff:10.0.0.1]/",
        "http://nothing.invalid/",
        "ftp://example.com/",
        "https://somebody:secret@example.com/",
        "https://example.com/#part",
        "https://xn--a/",
        "https://",
        "/hook",
        "http://exa mple.com/",
        "https://example.com/" + "x" * 2048,
    ],
)
async def test_only_public_addresses_are_taken(person: Person, url: str) -> None:
    answer = await person.http.post("/webhooks", json={"url": url, "events": ["job.finished"]})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/body/url"


def _is_set(event: threading.Event) -> Callable[[], Awaitable[object]]:
    async def look() -> bool:
        return event.is_set()

    return look


async def test_names_that_never_resolve_hold_up_nothing_else(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, answered, resolve = threading.Event(), threading.Event(), socket.getaddrinfo

    def wait(host: str, *rest: object, **more: object) -> object:
        if host != "slow.example":
            return resolve(host, *rest, **more)  # type: ignore[call-overload]
        asked.set()
        answered.wait(10)
        raise OSError(host)

    monkeypatch.setattr(socket, "getaddrinfo", wait)
    body = {"url": "http://slow.example/", "events": ["job.finished"]}
    made = [asyncio.create_task(person.http.post("/webhooks", json=body)) for _ in range(30)]
    try:
        await until(_is_set(asked))
        async with asyncio.timeout(3):
            upload = await person.http.post("/documents", files={"file": ("a.txt", b"words")})
    finally:
        answered.set()
    assert upload.status_code == 202, upload.text
    assert {answer.status_code for answer in await asyncio.gather(*made)} == {422}


async def test_unknown_events_and_too_many_webhooks_are_refused(person: Person) -> None:
    for events in ([], ["document.read"], ["ping"]):
        body = {"url": NOBODY, "events": events}
        assert (await person.http.post("/webhooks", json=body)).status_code == 422
    for _ in range(20):
        await hooked(person, NOBODY)
    body = {"url": NOBODY, "events": ALL}
    assert (await person.http.post("/webhooks", json=body)).status_code == 409


async def test_lists_hold_no_secrets_and_a_deleted_webhook_is_gone(
    person: Person,
    stranger: Person,
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    first, second = await hooked(person, NOBODY), await hooked(person, NOBODY, "job.finished")
    listed = (await person.http.get("/webhooks")).json()["items"]
    assert [each["id"] for each in listed] == [second["id"], first["id"]]
    assert not any("secret" in each for each in listed)
    assert (await stranger.http.get("/webhooks")).json()["items"] == []
    await person.http.post(f"/webhooks/{first['id']}/test")
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/test")):
        for webhook_id in (first["id"], uuid4()):
            found = await stranger.http.request(method, f"/webhooks/{webhook_id}{path}")
            assert found.status_code == 404
    assert (await person.http.delete(f"/webhooks/{first['id']}")).status_code == 204
    assert (await person.http.delete(f"/webhooks/{first['id']}")).status_code == 404
    assert await admin.fetchval("SELECT count(*) FROM webhook_deliveries") == 0
    acts = await admin.fetch(
        "SELECT action FROM audit_log WHERE action LIKE 'webhook.%' ORDER BY id"
    )
    assert [row["action"] for row in acts] == ["webhook.made"] * 2 + ["webhook.deleted"]


async def test_only_admins_have_webhooks_and_only_where_the_plan_has_them(
    person: Person,
    join: Join,  # noqa: F811
    admin: asyncpg.Connection,  # noqa: F811
) -> None:
    member = await join(person, "member")
    body = {"url": NOBODY, "events": ALL}
    assert (await member.http.post("/webhooks", json=body)).status_code == 403
    assert (await member.http.get("/webhooks")).status_code == 403
    await admin.execute("UPDATE plans SET features = array_remove(features, 'webhooks')")
    assert (await person.http.post("/webhooks", json=body)).status_code == 403
