"""The end of a tenant: at once for its people, then in every store, with a receipt."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from planes.data.pipeline.remove import DocumentStores, Remover
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunks import PostgresChunks
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.tenants.conftest import Join, accept, email_of, invite
from tests.integration.gateway.tenants.rows import RETAINED, left_over

pytestmark = pytest.mark.integration


@pytest.fixture
async def remover(database_urls: dict[str, str], tmp_path: Path) -> AsyncIterator[Remover]:
    """The data plane's part, to be called by the test."""
    database = Database(database_urls["data"], service="test")
    await database.open()
    objects = FolderObjects(tmp_path / "objects")
    yield Remover(DocumentStores(database, PostgresChunks(database), objects), worker="test")
    await database.close()


async def upload(person: Person, text: bytes) -> dict:
    files = {"file": ("a.txt", text, "text/plain")}
    answer = await person.http.post("/documents", files=files)
    assert answer.status_code == 202, answer.text
    return answer.json()["document"]


async def receipt_of(gateway: Gateway, receipt: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=gateway.url) as nobody:
        return await nobody.get(f"/tenant/receipts/{receipt}")


async def test_a_deleted_tenant_is_closed_at_once_and_then_gone_from_every_store(  # noqa: PLR0917
    gateway: Gateway,
    person: Person,
    stranger: Person,
    join: Join,
    remover: Remover,
    admin_database: Database,
) -> None:
    member = await join(person, "member")
    await upload(person, b"The warranty lasts two years.")
    await upload(stranger, b"Somebody else's warranty.")
    for each in (person, stranger):
        answer = await each.http.post("/chat", json={"message": "How long?"})
        assert answer.status_code == 200, answer.text
    made = await person.http.post("/auth/api-keys", json={"name": "ci", "scopes": ["search"]})
    key = {"authorization": f"Bearer {made.json()['key']}"}
    assert (await person.http.get("/auth/me", headers=key)).status_code == 200
    await invite(person, "grace@example.com")

    deleted = await person.http.delete("/tenant")

    assert deleted.status_code == 202
    assert deleted.json()["tenant_id"] == person.tenant_id
    for answer in (
        await person.http.get("/tenant"),
        await person.http.delete("/tenant"),
        await member.http.post("/search", json={"query": "warranty"}),
        await member.http.post("/chat", json={"message": "How long?"}),
        await person.http.get("/auth/me", headers=key),
    ):
        assert answer.status_code == 401
    receipt = deleted.json()["receipt"]
    shown = (await receipt_of(gateway, receipt)).json()
    assert (shown["status"], shown["completed_at"]) == ("deleting", None)

    async def is_complete() -> bool:
        nonlocal shown
        await remover.remove_deleted(documents=10)
        await asyncio.sleep(0.5)  # the limit of those who ask without credentials is small
        shown = (await receipt_of(gateway, receipt)).json()
        return shown["status"] == "complete"

    await until(is_complete, seconds=60)
    removed = shown["removed"]
    assert (shown["receipt_id"], removed["files"]) == (deleted.json()["receipt_id"], 1)
    assert removed["chat_messages"] == 2
    rows = removed["postgresql"]
    counted = ("documents", "conversations", "memberships", "api_keys", "invitations", "jobs")
    assert {name: rows[name] for name in counted} == dict.fromkeys(counted, 1) | {"memberships": 2}
    assert not (gateway.objects_dir / person.tenant_id).exists()
    assert (gateway.objects_dir / stranger.tenant_id).exists()
    async with admin_database.platform() as connection:
        assert await left_over(connection, person.tenant_id) <= RETAINED
        assert {"ledger", "audit_log"} <= await left_over(connection, person.tenant_id)
        name = await connection.fetchval(
            "SELECT name FROM tenants WHERE id = $1", UUID(person.tenant_id)
        )
    assert name == ""
    mine = (await stranger.http.get("/conversations")).json()["items"]
    assert len(mine) == 1
    assert (await stranger.http.get("/documents")).json()["items"]


async def test_an_open_answer_ends_with_its_tenant(
    gateway: Gateway, person: Person, plane: FakePlane
) -> None:
    plane.hold = asyncio.Event()
    body = {"message": "How long?", "stream": True}
    async with person.http.stream("POST", "/chat", json=body) as answer:
        lines = answer.aiter_lines()
        async for line in lines:
            if line == "event: delta":
                break
        async with httpx.AsyncClient(base_url=gateway.url, headers=person.http.headers) as other:
            assert (await other.delete("/tenant")).status_code == 202
        async with asyncio.timeout(5):
            rest = [line async for line in lines]
    assert "event: error" in rest
    await asyncio.wait_for(plane.hung_up.wait(), 5)


async def test_a_question_that_comes_a_moment_late_leaves_nothing_in_a_deleted_tenant(
    person: Person, admin_database: Database
) -> None:
    async with admin_database.platform() as connection:  # as a request sees it that was let in
        await connection.execute("UPDATE tenants SET deleted_at = now()")
    assert (await person.http.post("/chat", json={"message": "Hello?"})).status_code == 404
    async with admin_database.platform() as connection:
        assert await connection.fetchval("SELECT count(*) FROM conversations") == 0


async def test_only_an_owner_deletes_and_a_receipt_is_shown_to_whoever_has_it_alone(
    gateway: Gateway, person: Person, join: Join, admin_database: Database
) -> None:
    admin = await join(person, "admin")
    assert (await admin.http.delete("/tenant")).status_code == 403
    receipt = (await person.http.delete("/tenant")).json()["receipt"]
    assert (await receipt_of(gateway, receipt)).status_code == 200
    assert (await receipt_of(gateway, receipt[:-1])).status_code == 404
    async with admin_database.platform() as connection:
        row = await connection.fetchrow("SELECT * FROM tenant_deletions")
    assert receipt not in str(dict(row))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"confirm_name": "Another tenant"}, "/body/confirm_name"),
        ({}, "/body/confirm_name"),
        ({"confirm_name": "Acme", "force": True}, "/body/force"),
        ({"confirm_name": None}, "/body/confirm_name"),
    ],
)
async def test_a_body_must_name_the_tenant_that_it_deletes(
    body: dict[str, object], pointer: str, person: Person
) -> None:
    assert (await person.http.patch("/tenant", json={"name": "Acme"})).status_code == 200
    refused = await person.http.request("DELETE", "/tenant", json=body)
    assert refused.status_code == 422, refused.text
    assert [each["pointer"] for each in refused.json()["errors"]] == [pointer]
    assert (await person.http.get("/tenant")).status_code == 200
    deleted = await person.http.request("DELETE", "/tenant", json={"confirm_name": "Acme "})
    assert deleted.status_code == 202, deleted.text


async def test_an_invitation_to_a_deleted_tenant_is_worth_nothing(
    person: Person, stranger: Person
) -> None:
    token = (await invite(person, await email_of(stranger))).json()["token"]
    await person.http.delete("/tenant")
    assert (await accept(stranger, token)).status_code == 404
