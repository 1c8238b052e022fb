"""New versions and changes of documents: the published one stays until the next is ready."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import pytest

from tests.integration.gateway.conftest import Gateway, Person
from tests.integration.gateway.tenants.conftest import accept, email_of, invite, switch
from tests.integration.gateway.uploading import files_of

pytestmark = pytest.mark.integration

PUBLISH = """
WITH done AS (
    UPDATE document_versions SET status = 'ready', visibility = 'live' WHERE status = 'received'
    RETURNING id, document_id
)
UPDATE documents d SET published_version_id = done.id FROM done WHERE d.id = done.document_id
"""


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_file_bytes": 100_000}


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def upload(person: Person, name: str, content: bytes) -> str:
    answer = await person.http.post("/documents", files={"file": (name, content)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["document"]["id"])


async def replace(
    person: Person, document_id: str, content: bytes, *, key: str = "", name: str = "a.txt"
) -> httpx.Response:
    return await person.http.put(
        f"/documents/{document_id}/content",
        files={"file": (name, content)},
        headers={"idempotency-key": key} if key else {},
    )


async def numbers(admin: asyncpg.Connection) -> list[int]:
    rows = await admin.fetch("SELECT number FROM document_versions ORDER BY number")
    return [row["number"] for row in rows]


async def test_new_content_is_a_new_version_and_the_old_one_stays_published(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    document_id = await upload(person, "a.txt", b"old")
    await admin.execute(PUBLISH)
    answer = await replace(person, document_id, b"# new content", name="other.md")
    assert answer.status_code == 202, answer.text
    document = answer.json()["document"]
    assert document["id"] == document_id
    assert (document["name"], document["media_type"]) == ("a.txt", "text/markdown")
    assert (document["status"], document["version"]) == ("received", 1)
    assert document["size_bytes"] == len(b"# new content")
    content = await person.http.get(f"/documents/{document_id}/content")
    assert content.content == b"old", "of the published version"
    assert len(files_of(gateway)) == 2
    used = await admin.fetchrow(
        "SELECT documents_used, storage_bytes_used FROM tenants WHERE id = $1", person.tenant_id
    )
    assert tuple(used) == (1, len(b"old") + len(b"# new content"))
    job = (await person.http.get(f"/jobs/{answer.json()['job_id']}")).json()
    assert job["status"] == "queued"
    await admin.execute(PUBLISH)
    content = await person.http.get(f"/documents/{document_id}/content")
    assert content.content == b"# new content"
    assert (await person.http.delete(f"/documents/{document_id}")).status_code == 202
    used = await admin.fetchval("SELECT sum(documents_used + storage_bytes_used) FROM tenants")
    assert used == 0


async def test_the_same_content_makes_no_version(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    first = await person.http.post("/documents", files={"file": ("a.txt", b"old")})
    document_id = first.json()["document"]["id"]
    for statement in ("SELECT", PUBLISH):
        await admin.execute(statement)
        answer = await replace(person, document_id, b"old")
        assert answer.status_code == 202, answer.text
        assert answer.json()["job_id"] == first.json()["job_id"]
    assert await numbers(admin) == [1]
    assert files_of(gateway) == ["original"]
    assert await admin.fetchval("SELECT count(*) FROM uploads") == 0


async def test_a_failed_version_leaves_the_old_one_and_is_tried_again(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    document_id = await upload(person, "a.txt", b"old")
    await admin.execute(PUBLISH)
    second = await replace(person, document_id, b"new")
    await admin.execute("UPDATE document_versions SET status = 'failed' WHERE number = 2")
    document = (await person.http.get(f"/documents/{document_id}")).json()
    assert (document["status"], document["version"]) == ("failed", 1)
    present = await replace(person, document_id, b"old")
    assert present.json()["document"]["version"] == 1
    assert await numbers(admin) == [1, 2]
    again = await replace(person, document_id, b"new")
    assert again.json()["document"]["status"] == "received"
    assert again.json()["job_id"] != second.json()["job_id"]
    assert await numbers(admin) == [1, 2]
    assert len(files_of(gateway)) == 2


async def test_going_back_while_the_next_version_is_under_way_is_a_version_too(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id = await upload(person, "a.txt", b"old")
    await admin.execute(PUBLISH)
    await replace(person, document_id, b"new")
    await replace(person, document_id, b"old")
    assert await numbers(admin) == [1, 2, 3]


async def test_content_of_another_document_is_refused(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    await upload(person, "a.txt", b"taken")
    document_id = await upload(person, "b.txt", b"mine")
    answer = await replace(person, document_id, b"taken")
    assert answer.status_code == 409, answer.text
    assert await numbers(admin) == [1, 1]
    assert len(files_of(gateway)) == 2


async def test_a_refused_version_leaves_nothing(
    person: Person, stranger: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    document_id = await upload(person, "a.txt", b"old")
    for content, name, status in (
        (b"", "a.txt", 422),
        (b"MZ\x00", "a.exe", 415),
        (b"x" * 100_001, "a.txt", 413),
    ):
        assert (await replace(person, document_id, content, name=name)).status_code == status
    assert (await replace(person, str(uuid4()), b"new")).status_code == 404
    assert (await replace(stranger, document_id, b"new")).status_code == 404
    labelled = await person.http.put(
        f"/documents/{document_id}/content", files={"file": ("a.txt", b"x")}, data={"tags": "x"}
    )
    assert labelled.status_code == 422
    await admin.execute("UPDATE plans SET storage_bytes = 5 WHERE name = 'free'")
    assert (await replace(person, document_id, b"new")).status_code == 402
    assert await numbers(admin) == [1]
    assert files_of(gateway) == ["original"]
    assert await admin.fetchval("SELECT count(*) FROM uploads") == 0


async def test_versions_sent_at_once_are_numbered_one_after_the_other(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id = await upload(person, "a.txt", b"old")
    answers = await asyncio.gather(
        *(replace(person, document_id, f"version {n}".encode()) for n in range(5))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert await numbers(admin) == [1, 2, 3, 4, 5, 6]


async def test_a_repeated_request_makes_one_version(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id, key = await upload(person, "a.txt", b"old"), str(uuid4())
    first = await replace(person, document_id, b"new", key=key)
    again = await replace(person, document_id, b"new", key=key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (await replace(person, document_id, b"other", key=key)).status_code == 422
    assert await numbers(admin) == [1, 2]


async def test_members_change_their_own_documents_and_admins_all(
    person: Person, gateway: Gateway
) -> None:
    of_owner = await upload(person, "a.txt", b"the owner's")
    member = await gateway.register()
    invitation = await invite(person, await email_of(member), "member")
    await accept(member, invitation.json()["token"])
    await switch(member, person.tenant_id)
    of_member = await upload(member, "b.txt", b"the member's")

    async def tries(who: Person, document_id: str) -> list[int]:
        changed = await who.http.patch(f"/documents/{document_id}", json={"name": "c.txt"})
        replaced = await replace(who, document_id, f"new {who.user_id}".encode())
        return [changed.status_code, replaced.status_code]

    assert await tries(member, of_owner) == [403, 403]
    assert await tries(member, of_member) == [200, 202]
    assert await tries(person, of_member) == [200, 202]
    await member.http.aclose()


async def test_a_change_is_seen_and_drops_what_was_cached(
    person: Person, stranger: Person, admin: asyncpg.Connection
) -> None:
    document_id = await upload(person, "a.txt", b"old")
    path = f"/documents/{document_id}"

    async def corpus() -> int:
        return await admin.fetchval(
            "SELECT corpus_version FROM tenants WHERE id = $1", person.tenant_id
        )

    before = await corpus()
    change = {"name": "Räte & Co.md", "tags": ["b", "a", "b"], "metadata": {"n": {"m": 1}}}
    answer = await person.http.patch(path, json=change)
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert changed["name"] == "Räte & Co.md"
    assert changed["tags"] == ["a", "b"]
    assert changed["metadata"] == {"n": {"m": 1}}
    assert await corpus() == before + 1
    partly = (await person.http.patch(path, json={"tags": []})).json()
    assert (partly["name"], partly["tags"]) == ("Räte & Co.md", [])
    assert partly["metadata"] == {"n": {"m": 1}}
    tagged = await person.http.get("/documents", params={"tag": "a"})
    assert tagged.json()["items"] == []
    same = await person.http.patch(path, json={})
    assert same.json()["updated_at"] == partly["updated_at"]
    assert await corpus() == before + 2, "nothing changed"
    assert (await stranger.http.patch(path, json={"name": "x"})).status_code == 404


async def test_a_change_that_cannot_be_stored_is_refused(person: Person) -> None:
    document_id = await upload(person, "a.txt", b"old")
    for wrong in (
        {"name": ""},
        {"name": " "},
        {"name": "a/b"},
        {"name": "a\x00"},
        {"name": "x" * 256},
        {"name": 5},
        {"tags": ["x" * 65]},
        {"tags": [f"t{n}" for n in range(33)]},
        {"tags": "x"},
        {"metadata": []},
        {"metadata": {"x": "y" * 20_000}},
        {"metadata": {"x": "\x00"}},
        {"status": "ready"},
    ):
        answer = await person.http.patch(f"/documents/{document_id}", json=wrong)
        assert answer.status_code == 422, wrong
    document = (await person.http.get(f"/documents/{document_id}")).json()
    assert document["name"] == "a.txt"


async def test_the_original_file_comes_in_parts_too(person: Person) -> None:
    document_id = await upload(person, "Räte.txt", b"0123456789")
    path = f"/documents/{document_id}/content"
    whole = await person.http.get(path)
    assert whole.status_code == 200
    assert whole.headers["accept-ranges"] == "bytes"
    assert whole.headers["content-disposition"] == "attachment; filename*=UTF-8''R%C3%A4te.txt"
    assert whole.headers["x-content-type-options"] == "nosniff"
    partial = await person.http.get(path, headers={"range": "bytes=2-4"})
    assert (partial.status_code, partial.content) == (206, b"234")
    absent = await person.http.get(path, headers={"range": "bytes=50-"})
    assert absent.status_code == 416
    head = await person.http.head(path)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "10", b"")
    assert (await person.http.head(f"/documents/{uuid4()}/content")).status_code == 404
