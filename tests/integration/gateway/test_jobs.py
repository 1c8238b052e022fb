"""Jobs as clients see them: counted, cancelled, and tried again."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from planes.shared.domain import new_id
from services.gateway.jobs import service
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.tenants.conftest import Join, join  # noqa: F401

pytestmark = pytest.mark.integration


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """The database as its owner sees it, in the data plane's place."""
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def uploaded(person: Person, content: bytes = b"hello") -> tuple[str, str]:
    """Upload a text; return its document and its job."""
    answer = await person.http.post("/documents", files={"file": ("a.txt", content)})
    assert answer.status_code == 202, answer.text
    return answer.json()["document"]["id"], answer.json()["job_id"]


async def job_over(admin: asyncpg.Connection, person: Person, *documents: str) -> str:
    """Make another job over the newest versions of documents."""
    job_id, tenant_id = new_id(), UUID(person.tenant_id)
    await admin.execute(
        "INSERT INTO jobs (id, tenant_id, created_by) VALUES ($1, $2, $3)",
        job_id,
        tenant_id,
        UUID(person.user_id),
    )
    await admin.execute(
        "INSERT INTO job_items (job_id, tenant_id, document_id, version_id) "
        "SELECT $1, $2, id, newest_version_id FROM documents WHERE id = ANY ($3)",
        job_id,
        tenant_id,
        [UUID(each) for each in documents],
    )
    return str(job_id)


async def become(
    admin: asyncpg.Connection, document_id: str, status: str, percent: int = 0
) -> None:
    """Change the newest version of a document, as the data plane does."""
    error = '{"code": "corrupt", "detail": "It is.", "retryable": true}'
    await admin.execute(
        "UPDATE document_versions v SET status = $2, percent = $3, updated_at = now(), "
        "error = CASE WHEN $2 = 'failed' THEN $4::jsonb END "
        "FROM documents d WHERE d.id = $1 AND v.id = d.newest_version_id",
        UUID(document_id),
        status,
        percent,
        error,
    )


async def job(person: Person, job_id: str) -> dict:
    answer = await person.http.get(f"/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_a_job_counts_what_became_of_its_documents(
    person: Person, admin: asyncpg.Connection
) -> None:
    documents = [(await uploaded(person, f"text {n}".encode()))[0] for n in range(4)]
    job_id = await job_over(admin, person, *documents)
    assert (await job(person, job_id))["status"] == "queued"
    await become(admin, documents[0], "parsing", 40)
    found = await job(person, job_id)
    assert (found["status"], found["progress"]["percent"]) == ("running", 10)
    await become(admin, documents[0], "ready", 100)
    await become(admin, documents[1], "failed", 15)
    await become(admin, documents[2], "failed", 15)
    found = await job(person, job_id)
    assert found["status"] == "running"
    assert found["finished_at"] is None
    assert found["progress"] == {
        "total": 4,
        "ready": 1,
        "failed": 2,
        "cancelled": 0,
        "percent": 75,
    }
    await become(admin, documents[3], "failed")
    found = (await person.http.get(f"/jobs/{job_id}/status")).json()
    assert found["status"] == "succeeded"
    assert found["finished_at"] is not None
    assert [each["error"] and each["error"]["code"] for each in found["documents"]] == [
        None,
        "corrupt",
        "corrupt",
        "corrupt",
    ]


async def test_what_becomes_of_a_document_later_does_not_change_a_job_that_ended(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id, first = await uploaded(person)
    await become(admin, document_id, "failed")
    again = await person.http.post("/jobs/process-document", json={"document_id": document_id})
    assert again.status_code == 202, again.text
    second = again.json()["job_id"]
    assert (await job(person, first))["status"] == "failed"
    assert (await job(person, second))["status"] == "queued"
    await become(admin, document_id, "ready", 100)
    assert (await job(person, first))["documents"][0]["error"]["code"] == "corrupt"
    assert (await job(person, second))["status"] == "succeeded"
    assert await admin.fetchval("SELECT max(number) FROM document_versions") == 1


async def test_a_job_of_documents_that_are_ready_already_has_succeeded(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id, _ = await uploaded(person)
    await become(admin, document_id, "ready", 100)
    found = await job(person, await job_over(admin, person, document_id))
    assert found["status"] == "succeeded"


async def test_cancelling_stops_what_is_unfinished_and_leaves_what_is_ready(
    person: Person, admin: asyncpg.Connection
) -> None:
    documents = [(await uploaded(person, f"text {n}".encode()))[0] for n in range(3)]
    job_id = await job_over(admin, person, *documents)
    await admin.execute("DELETE FROM job_items WHERE job_id <> $1", UUID(job_id))  # the uploads'
    await become(admin, documents[0], "ready", 100)
    await become(admin, documents[1], "embedding", 50)
    answer = await person.http.post(f"/jobs/{job_id}/cancel")
    assert answer.status_code == 202, answer.text
    assert answer.json()["status"] == "cancelled"
    assert answer.json()["progress"]["cancelled"] == 2
    statuses = await admin.fetch("SELECT status FROM document_versions ORDER BY id")
    assert [row["status"] for row in statuses] == ["ready", "cancelled", "cancelled"]
    stopped = (await person.http.get(f"/documents/{documents[1]}")).json()
    assert (stopped["status"], stopped["error"]["code"]) == ("failed", "cancelled")
    again = await person.http.post(f"/jobs/{job_id}/cancel")
    assert again.status_code == 202
    assert again.json() == answer.json()


@pytest.mark.usefixtures("hasty")
async def test_a_cancellation_that_was_cut_off_is_ended(
    person: Person, admin: asyncpg.Connection
) -> None:
    documents = [(await uploaded(person, f"text {n}".encode()))[0] for n in range(3)]
    job_id = await job_over(admin, person, *documents)
    async with admin.transaction():
        await admin.execute("SELECT set_config('app.tenant_id', $1, true)", person.tenant_id)
        assert await admin.fetchval("SELECT cancel_job($1, 1)", UUID(job_id))

    async def is_ended() -> bool:
        return (await job(person, job_id))["finished_at"] is not None

    await until(is_ended, seconds=30)
    assert (await job(person, job_id))["progress"]["cancelled"] == 3


async def test_large_jobs_are_retried_and_cancelled_part_by_part(
    person: Person, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_AT_ONCE", 2)
    for number in range(5):
        document_id, _ = await uploaded(person, f"text {number}".encode())
        await become(admin, document_id, "failed")
    answer = await person.http.post("/jobs/process-document", json={"all_failed": True})
    assert (answer.status_code, answer.json()["documents"]) == (202, 5)
    cancelled = await person.http.post(f"/jobs/{answer.json()['job_id']}/cancel")
    assert cancelled.json()["progress"]["cancelled"] == 5
    assert cancelled.json()["finished_at"] is not None


async def test_what_another_job_waits_for_goes_on(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id, first = await uploaded(person)
    second = await job_over(admin, person, document_id)
    cancelled = (await person.http.post(f"/jobs/{first}/cancel")).json()
    assert cancelled["status"] == "cancelled"
    assert cancelled["documents"][0]["error"]["code"] == "cancelled"
    assert (await job(person, second))["status"] == "queued"
    assert await admin.fetchval("SELECT status FROM document_versions") == "received"
    await become(admin, document_id, "ready", 100)
    assert (await job(person, second))["status"] == "succeeded"
    assert (await job(person, first))["status"] == "cancelled"


async def test_a_finished_job_is_not_cancelled_any_more(
    person: Person, admin: asyncpg.Connection
) -> None:
    document_id, job_id = await uploaded(person)
    await become(admin, document_id, "ready", 100)
    answer = await person.http.post(f"/jobs/{job_id}/cancel")
    assert (answer.status_code, answer.json()["status"]) == (202, "succeeded")


async def test_only_their_makers_and_admins_cancel_jobs_and_have_documents_processed(
    person: Person,
    join: Join,  # noqa: F811
    admin: asyncpg.Connection,
) -> None:
    member, other = await join(person, "member"), await join(person, "member")
    document_id, job_id = await uploaded(member)
    assert (await other.http.post(f"/jobs/{job_id}/cancel")).status_code == 403
    await become(admin, document_id, "failed")
    body = {"document_id": document_id}
    assert (await other.http.post("/jobs/process-document", json=body)).status_code == 403
    answer = await other.http.post("/jobs/process-document", json={"all_failed": True})
    assert answer.status_code == 409, "nothing of theirs has failed"
    answer = await person.http.post("/jobs/process-document", json={"all_failed": True})
    assert (answer.status_code, answer.json()["documents"]) == (202, 1)
    assert (await person.http.post(f"/jobs/{answer.json()['job_id']}/cancel")).status_code == 202


async def test_a_searchable_document_is_processed_again_as_a_new_version_of_the_same_bytes(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    document_id, _ = await uploaded(person, b"the same bytes")
    await become(admin, document_id, "ready", 100)
    await admin.execute("UPDATE document_versions SET visibility = 'live', chunk_count = 1")
    await admin.execute("UPDATE documents SET published_version_id = newest_version_id")
    body, keyed = {"document_id": document_id}, {"idempotency-key": "again"}
    answer = await person.http.post("/jobs/process-document", json=body, headers=keyed)
    assert answer.status_code == 202, answer.text
    repeated = await person.http.post("/jobs/process-document", json=body, headers=keyed)
    assert repeated.json() == answer.json()
    joined = await person.http.post("/jobs/process-document", json=body)
    assert joined.json()["job_id"] == answer.json()["job_id"], "it is under way already"
    document = (await person.http.get(f"/documents/{document_id}")).json()
    assert (document["status"], document["version"]) == ("received", 1)
    versions = await admin.fetch("SELECT * FROM document_versions ORDER BY number")
    assert [(row["number"], row["visibility"]) for row in versions] == [(1, "live"), (2, "none")]
    assert versions[0]["sha256"] == versions[1]["sha256"]
    originals = [path.read_bytes() for path in gateway.objects_dir.rglob("original")]
    assert originals == [b"the same bytes"] * 2
    assert await admin.fetchval("SELECT count(*) FROM uploads") == 0
    used = await admin.fetchval(
        "SELECT storage_bytes_used FROM tenants WHERE id = $1", UUID(person.tenant_id)
    )
    assert used == 2 * len(b"the same bytes")
    assert (await person.http.delete(f"/documents/{document_id}")).status_code == 202


async def test_a_document_whose_file_is_gone_is_not_processed_again(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    document_id, _ = await uploaded(person)
    await become(admin, document_id, "ready", 100)
    (original,) = gateway.objects_dir.rglob("original")
    original.write_bytes(b"damaged")
    body = {"document_id": document_id}
    assert (await person.http.post("/jobs/process-document", json=body)).status_code == 409
    original.unlink()
    assert (await person.http.post("/jobs/process-document", json=body)).status_code == 409
    assert await admin.fetchval("SELECT count(*) FROM document_versions") == 1
    assert await admin.fetchval("SELECT count(*) FROM uploads") == 0


async def test_all_failed_documents_are_tried_again_with_one_call(
    person: Person, admin: asyncpg.Connection
) -> None:
    documents = []
    for number, tag in enumerate(["legal", "legal", "other"]):
        files = {"file": ("a.txt", f"text {number}".encode())}
        made = await person.http.post("/documents", files=files, data={"tags": tag})
        documents.append(made.json()["document"]["id"])
    await become(admin, documents[0], "failed")
    await become(admin, documents[2], "failed")
    wanted = {"all_failed": True, "tags": ["legal"]}
    answer = await person.http.post("/jobs/process-document", json=wanted)
    assert (answer.status_code, answer.json()["documents"]) == (202, 1)
    found = await job(person, answer.json()["job_id"])
    assert [each["document_id"] for each in found["documents"]] == [documents[0]]
    answer = await person.http.post("/jobs/process-document", json={"all_failed": True})
    assert (await job(person, answer.json()["job_id"]))["progress"]["total"] == 1
    none = await person.http.post("/jobs/process-document", json={"all_failed": True})
    assert none.status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"document_id": str(uuid4()), "all_failed": True},
        {"all_failed": False},
        {"document_id": str(uuid4()), "tags": ["x"]},
        {"all_failed": True, "tags": []},
    ],
)
async def test_exactly_one_kind_of_processing_is_asked_for(person: Person, body: dict) -> None:
    answer = await person.http.post("/jobs/process-document", json=body)
    assert answer.status_code == 422, answer.text
