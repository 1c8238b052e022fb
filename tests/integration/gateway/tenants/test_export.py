"""Taking data away: whole, in bounded memory, and nothing that is not the taker's to read."""

import asyncio
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest

from planes.shared.domain import text_key
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.tenants.conftest import Join, email_of, invite

pytestmark = pytest.mark.integration

WARRANTY = b"The warranty lasts two years.\n"


def opened(answer: httpx.Response) -> dict[str, bytes]:
    """Return an archive's entries, having checked every one of them against the manifest."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as archive:
        names = archive.getnames()
        entries = {name: archive.extractfile(name).read() for name in names}  # type: ignore[union-attr]
    assert names[-1] == "manifest.json"
    listed = set()
    for part in json.loads(entries["manifest.json"])["checksums"]:
        assert hashlib.sha256(entries[part["path"]]).hexdigest() == part["sha256"]
        for line in rows(entries, part["path"]):
            assert hashlib.sha256(entries[line["path"]]).hexdigest() == line["sha256"]
            listed.add(line["path"])
    assert listed == {name for name in names[:-1] if not name.startswith("checksums/")}
    return entries


def rows(entries: dict[str, bytes], name: str) -> list[dict]:
    return [json.loads(line) for line in entries[name].splitlines()]


async def upload(person: Person, content: bytes) -> dict:
    files = {"file": ("warranty.txt", content, "text/plain")}
    return (await person.http.post("/documents", files=files)).json()["document"]


async def test_an_owner_takes_the_tenant_away_with_its_files_and_without_what_members_said(
    gateway: Gateway, person: Person, stranger: Person, join: Join, admin_database: Database
) -> None:
    member = await join(person, "member")
    document = await upload(member, WARRANTY)
    await upload(stranger, b"Somebody else's.")
    async with admin_database.platform() as connection:
        version = await connection.fetchval(
            "SELECT newest_version_id FROM documents WHERE id = $1", UUID(document["id"])
        )
    key = text_key(UUID(person.tenant_id), UUID(document["id"]), version)
    await FolderObjects(gateway.objects_dir).put(key, b"extracted")
    question = {"message": "My secret question"}
    assert (await member.http.post("/chat", json=question)).status_code == 200
    await invite(person, "grace@example.com")
    await person.http.post("/auth/api-keys", json={"name": "ci", "scopes": ["search"]})

    answer = await person.http.get("/tenant/export")

    entries = opened(answer)
    folder = f"files/{document['id']}/{version}"
    assert entries[f"{folder}/original"] == WARRANTY
    assert entries[f"{folder}/text.txt"] == b"extracted"
    assert rows(entries, "tenant.jsonl")[0]["id"] == person.tenant_id
    assert {each["id"] for each in rows(entries, "members.jsonl")} == {
        person.user_id,
        member.user_id,
    }
    [exported] = rows(entries, "documents.jsonl")
    assert (exported["name"], exported["sha256"]) == (
        "warranty.txt",
        hashlib.sha256(WARRANTY).hexdigest(),
    )
    assert [each["email"] for each in rows(entries, "invitations.jsonl")] == ["grace@example.com"]
    assert len(rows(entries, "ledger.jsonl")) == len(rows(entries, "conversations.jsonl")) == 1
    assert isinstance(rows(entries, "ledger.jsonl")[0]["cost_usd"], str)
    assert rows(entries, "usage.jsonl")[0]["messages_used"] == 1
    manifest = json.loads(entries["manifest.json"])
    assert (manifest["files"], manifest["rows"]["documents"]) == (2, 1)
    for secret in (b'hash"', b"secret question", stranger.tenant_id.encode()):
        assert secret not in answer.content
    acts = (await person.http.get("/tenant/audit")).json()["items"]
    assert acts[0]["action"] == "tenant.exported"


async def test_a_long_table_comes_in_parts_and_keeps_every_row(
    person: Person, admin_database: Database
) -> None:
    async with admin_database.platform() as connection:
        await connection.execute(
            "INSERT INTO audit_log (id, tenant_id, actor_kind, action)"
            " SELECT gen_random_uuid(), $1, 'system', 'x' FROM generate_series(1, 2500)",
            person.tenant_id,
        )
    entries = opened(await person.http.get("/tenant/export"))
    parts = [name for name in entries if name.startswith("audit_log.")]
    assert parts == ["audit_log.jsonl", "audit_log.000002.jsonl", "audit_log.000003.jsonl"]
    exported = [each["id"] for part in parts for each in rows(entries, part)]
    assert len(exported) == len(set(exported)) >= 2501


async def test_only_owners_export_and_one_at_a_time(
    person: Person, join: Join, admin_database: Database
) -> None:
    admin = await join(person, "admin")
    assert (await admin.http.get("/tenant/export")).status_code == 403
    async with admin_database.platform() as connection:
        await connection.execute(
            "INSERT INTO exports VALUES ($1, $1, gen_random_uuid(), now() + interval '1 minute')",
            person.tenant_id,
        )
    assert (await person.http.get("/tenant/export")).status_code == 409
    async with admin_database.platform() as connection:  # its gateway died
        await connection.execute("UPDATE exports SET lease_until = now()")
    opened(await person.http.get("/tenant/export"))
    opened(await person.http.get("/tenant/export"))


async def test_of_parallel_exports_all_but_those_that_follow_one_another_are_refused(
    person: Person,
) -> None:
    answers = await asyncio.gather(*(person.http.get("/tenant/export") for _ in range(5)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert any(answer.status_code == 200 for answer in answers)


async def is_free(database: Database) -> bool:
    async with database.platform() as connection:
        return not await connection.fetchval("SELECT count(*) FROM exports")


async def drained(blocks: AsyncIterator[bytes]) -> None:
    async for _ in blocks:
        pass


async def large_file(gateway: Gateway, person: Person, database: Database) -> None:
    """Give a tenant a document whose text is larger than what sockets buffer."""
    document = await upload(person, WARRANTY)
    async with database.platform() as connection:
        version = await connection.fetchval(
            "SELECT newest_version_id FROM documents WHERE id = $1", UUID(document["id"])
        )
    key = text_key(UUID(person.tenant_id), UUID(document["id"]), version)
    await FolderObjects(gateway.objects_dir).put(key, bytes(64 << 20))


async def test_a_client_that_hangs_up_frees_the_export(
    gateway: Gateway, person: Person, admin_database: Database
) -> None:
    await large_file(gateway, person, admin_database)
    async with person.http.stream("GET", "/tenant/export") as answer:
        await anext(answer.aiter_bytes())
    await until(lambda: is_free(admin_database))


async def test_an_export_ends_with_the_session_that_began_it(
    gateway: Gateway, person: Person, admin_database: Database
) -> None:
    await large_file(gateway, person, admin_database)
    async with person.http.stream("GET", "/tenant/export") as answer:
        blocks = answer.aiter_bytes()
        await anext(blocks)
        assert (await person.http.post("/auth/logout")).status_code == 204
        await asyncio.sleep(1)  # it looks twice a second, as far as its client reads
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await drained(blocks)


async def test_a_person_takes_away_what_is_theirs_from_every_tenant_they_belong_to(
    person: Person, join: Join
) -> None:
    member = await join(person, "member")
    home = (await member.http.get("/auth/me")).json()["user"]["id"]
    await member.http.post("/chat", json={"message": "My own question"})
    await person.http.post("/chat", json={"message": "The owner's question"})
    await upload(member, WARRANTY)

    answer = await member.http.get("/auth/me/export")

    entries = opened(answer)
    [profile] = rows(entries, "profile.jsonl")
    assert (profile["id"], profile["email"]) == (home, await email_of(member))
    assert len(rows(entries, "memberships.jsonl")) == 2
    folder = f"tenants/{person.tenant_id}"
    messages = rows(entries, f"{folder}/messages.jsonl")
    assert [each["role"] for each in messages] == ["user", "assistant"]
    assert messages[0]["content"] == "My own question"
    assert [each["name"] for each in rows(entries, f"{folder}/uploads.jsonl")] == ["warranty.txt"]
    assert {each["user_id"] for each in rows(entries, f"{folder}/usage.jsonl")} == {home}
    assert {each["actor_id"] for each in rows(entries, f"{folder}/audit_log.jsonl")} == {home}
    for other in (b"owner's question", b'hash"', b"$argon2"):
        assert other not in answer.content


async def test_an_export_holds_no_conversations_of_tenants_that_were_left(
    person: Person, join: Join
) -> None:
    member = await join(person, "member")
    login = {"email": await email_of(member), "password": "seven herons near a quiet lake"}
    await member.http.post("/chat", json={"message": "My own question"})
    await member.http.delete(f"/tenant/members/{member.user_id}")
    tokens = (await member.http.post("/auth/login", json=login)).json()
    member.http.headers["authorization"] = f"Bearer {tokens['access_token']}"
    answer = await member.http.get("/auth/me/export")
    opened(answer)
    assert b"My own question" not in answer.content
