"""Documents through the gateway: accepted whole, refused without a trace, nobody else's."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from planes.shared.domain import Comparison, DocumentFilter, MetadataCondition, new_id
from planes.shared.wire import Scope
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_file_bytes": 1_000_000}


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def upload(person: Person, name: str, content: bytes, **fields: object) -> httpx.Response:
    return await person.http.post("/documents", files={"file": (name, content)}, data=fields)


def files_of(gateway: Gateway) -> list[str]:
    return [path.name for path in gateway.objects_dir.rglob("*") if path.is_file()]


async def test_an_upload_is_accepted_with_a_job(person: Person, gateway: Gateway) -> None:
    response = await upload(
        person, "a/b/Räte & Co.txt", b"hello", tags=["x", "y", "x"], metadata='{"n": 1}'
    )
    assert response.status_code == 202, response.text
    document = response.json()["document"]
    assert document["name"] == "Räte & Co.txt"
    assert document["status"] == "received"
    assert document["tags"] == ["x", "y"]
    assert document["metadata"] == {"n": 1}
    assert document["version"] is None
    assert files_of(gateway) == ["original"]

    job = (await person.http.get(f"/jobs/{response.json()['job_id']}")).json()
    assert job["status"] == "queued"
    assert job["progress"].items() >= {"total": 1, "ready": 0, "failed": 0}.items()
    content = await person.http.get(f"/documents/{document['id']}/content")
    assert content.content == b"hello"
    assert "attachment" in content.headers["content-disposition"]
    text = await person.http.get(f"/documents/{document['id']}/text")
    assert text.status_code == 409


async def test_the_same_bytes_are_the_same_document(person: Person, gateway: Gateway) -> None:
    answers = await asyncio.gather(
        *(upload(person, f"{n}.txt", b"the same bytes") for n in range(6))
    )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["document"]["id"] for answer in answers}) == 1
    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert files_of(gateway) == ["original"]
    assert len((await person.http.get("/documents")).json()["items"]) == 1


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("empty.txt", b"", 422),
        ("program.exe", b"MZ\x90\x00" + bytes(100), 415),
        ("no-suffix", b"hello", 415),
        ("picture.txt", b"\x89PNG\r\n\x1a\n" + bytes(100), 415),
        ("not-a.pdf", b"hello", 415),
        ("not-a.docx", b"hello", 415),
        ("in-truth-a-pdf.docx", b"%PDF-1.7 hello", 415),
        ("large.txt", b"x" * 1_000_001, 413),
        ("huge.txt", b"x" * 3_000_000, 413),
        ("..", b"hello", 422),
    ],
)
async def test_a_refused_upload_leaves_nothing_behind(  # noqa: PLR0917
    person: Person,
    gateway: Gateway,
    admin: asyncpg.Connection,
    name: str,
    content: bytes,
    status: int,
) -> None:
    response = await upload(person, name, content)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert files_of(gateway) == []
    for table in ("documents", "document_versions", "jobs", "uploads"):
        assert await admin.fetchval(f"SELECT count(*) FROM {table}") == 0  # noqa: S608


async def test_forms_with_wrong_fields_are_refused(person: Person) -> None:
    file = {"file": ("a.txt", b"hello")}
    wrong = [
        {"data": {"tenant_id": "x"}, "files": file},
        {"data": {"metadata": "[1]"}, "files": file},
        {"data": {"metadata": "{"}, "files": file},
        {"data": {"metadata": '{"a":' * 400 + "1" + "}" * 400}, "files": file},
        {"data": {"tags": "x" * 65}, "files": file},
        {"files": {"document": ("a.txt", b"hello")}},
        {"data": {"file": "hello"}},
        {"json": {"file": "hello"}},
        {"content": b"--x", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"content": b"--x", "headers": {"content-type": "multipart/form-data"}},
    ]
    for request in wrong:
        response = await person.http.post("/documents", **request)
        assert response.status_code in (400, 422), request
        assert response.headers["content-type"] == "application/problem+json"


async def test_only_an_upload_may_have_a_large_body(gateway: Gateway) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        for path in ("/auth/login", "/chat", "/api/v1/search"):
            answer = await http.post(path, content=b"x" * 1_100_000, headers=headers)
            assert answer.status_code == 413, path


async def test_a_failed_document_is_tried_again_with_the_bytes_that_came_now(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    first = (await upload(person, "a.txt", b"hello")).json()
    await admin.execute("UPDATE document_versions SET status = 'failed'")
    (lost,) = gateway.objects_dir.rglob("original")
    lost.unlink()
    again = (await upload(person, "a.txt", b"hello")).json()
    assert again["document"]["id"] == first["document"]["id"]
    assert again["job_id"] != first["job_id"]
    assert lost.read_bytes() == b"hello"
    assert files_of(gateway) == ["original"]


async def test_the_sweep_of_an_intent_that_became_a_document_leaves_its_file(
    person: Person, gateway: Gateway
) -> None:
    document_id = (await upload(person, "a.txt", b"hello")).json()["document"]["id"]
    (folder,) = (gateway.objects_dir / person.tenant_id / "documents" / document_id).iterdir()
    uploads = gateway.app.state.uploads
    await uploads.discard(UUID(person.tenant_id), [UUID(folder.name)])
    assert files_of(gateway) == ["original"]


async def test_text_that_mentions_a_signature_is_text(person: Person) -> None:
    answer = await upload(person, "note.md", b"A PDF starts with %PDF-1.7, they say.")
    assert answer.json()["document"]["media_type"] == "text/markdown"


async def test_nobody_uploads_without_signing_in(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        response = await http.post("/documents", files={"file": ("a.txt", b"hello")})
    assert response.status_code == 401
    assert files_of(gateway) == []


async def test_a_deleted_document_is_gone_at_once(
    person: Person, admin: asyncpg.Connection
) -> None:
    document = (await upload(person, "a.txt", b"hello")).json()["document"]
    path = f"/documents/{document['id']}"
    deleted = await person.http.delete(path)
    assert deleted.status_code == 202
    assert deleted.json()["document_id"] == document["id"]
    assert (await person.http.get(path)).status_code == 404
    assert (await person.http.get(f"{path}/content")).status_code == 404
    assert (await person.http.delete(path)).status_code == 404
    assert (await person.http.get("/documents")).json()["items"] == []
    receipt = (await person.http.get(f"{path}/receipt")).json()
    assert receipt["status"] == "deleting"
    assert await admin.fetchval("SELECT name FROM documents") == "", "its name is gone too"
    used = await admin.fetchrow(
        "SELECT documents_used, storage_bytes_used FROM tenants WHERE id = $1", person.tenant_id
    )
    assert tuple(used) == (0, 0)
    again = await upload(person, "a.txt", b"hello")
    assert again.json()["document"]["id"] != document["id"]


async def test_another_tenants_document_is_absent(person: Person, stranger: Person) -> None:
    answer = (await upload(person, "a.txt", b"hello")).json()
    document_id, job_id = answer["document"]["id"], answer["job_id"]
    for path in (
        f"/documents/{document_id}",
        f"/documents/{document_id}/text",
        f"/documents/{document_id}/content",
        f"/documents/{document_id}/receipt",
        f"/jobs/{job_id}",
    ):
        foreign = await stranger.http.get(path)
        absent = await stranger.http.get(
            path.replace(document_id, str(uuid4())).replace(job_id, str(uuid4()))
        )
        assert foreign.status_code == absent.status_code == 404
        assert foreign.json()["detail"] == absent.json()["detail"]
    assert (await stranger.http.delete(f"/documents/{document_id}")).status_code == 404
    assert (await stranger.http.get("/documents")).json()["items"] == []
    same_bytes = await upload(stranger, "a.txt", b"hello")
    assert same_bytes.json()["document"]["id"] != document_id


async def test_lists_come_in_pages_newest_first(person: Person) -> None:
    for number in range(5):
        await upload(person, f"{number}.txt", f"text {number}".encode(), tags=[f"t{number % 2}"])
    first = (await person.http.get("/documents", params={"limit": 3})).json()
    rest = (await person.http.get("/documents", params={"cursor": first["next_cursor"]})).json()
    names = [document["name"] for document in first["items"] + rest["items"]]
    assert names == ["4.txt", "3.txt", "2.txt", "1.txt", "0.txt"]
    assert rest["next_cursor"] is None
    tagged = (await person.http.get("/documents/list", params={"tag": "t1"})).json()["items"]
    assert [document["name"] for document in tagged] == ["3.txt", "1.txt"]
    ready = (await person.http.get("/documents", params={"status": "ready"})).json()["items"]
    assert ready == []
    for wrong in ({"cursor": "nonsense"}, {"limit": 0}, {"status": "lost"}, {"tag": "a\x00"}):
        assert (await person.http.get("/documents", params=wrong)).status_code == 422


async def test_a_quota_of_documents_lets_exactly_so_many_in(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    await admin.execute("UPDATE plans SET documents = 3 WHERE name = 'free'")
    answers = await asyncio.gather(
        *(upload(person, f"{n}.txt", f"text {n}".encode()) for n in range(8))
    )
    assert sorted(answer.status_code for answer in answers) == [202] * 3 + [402] * 5
    assert len(files_of(gateway)) == 3
    usage = (await person.http.get("/billing/usage")).json()
    assert usage["quotas"]["documents"]["remaining"] == 0


@pytest.mark.usefixtures("hasty")
async def test_a_file_whose_gateway_died_is_swept(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    version_id, document_id = uuid4(), uuid4()
    folder = gateway.objects_dir / person.tenant_id / "documents" / str(document_id)
    (folder / str(version_id)).mkdir(parents=True)
    (folder / str(version_id) / "original").write_bytes(b"half a fi")
    await admin.execute(
        "INSERT INTO uploads VALUES ($1, $2, $3, now() - interval '1 second')",
        version_id,
        person.tenant_id,
        document_id,
    )

    async def swept() -> bool:
        return await admin.fetchval("SELECT count(*) FROM uploads") == 0

    await until(swept, seconds=30)
    assert files_of(gateway) == []


async def test_every_path_also_answers_under_api_v1(person: Person) -> None:
    made = await person.http.post("/api/v1/documents/upload", files={"file": ("a.txt", b"hello")})
    assert made.status_code == 202
    document_id = made.json()["document"]["id"]
    assert (await person.http.get(f"/api/v1/documents/{document_id}")).status_code == 200
    job = await person.http.get(f"/api/v1/jobs/{made.json()['job_id']}/status")
    assert job.status_code == 200


async def test_what_narrows_a_search_reaches_the_plane_as_data(
    person: Person, plane: FakePlane
) -> None:
    async def scope_of(**narrower: object) -> Scope:
        answer = await person.http.post("/search", json={"query": "x", **narrower})
        assert answer.status_code == 200, answer.text
        return plane.searched[-1].scope

    document_id = new_id()
    assert (await scope_of()).documents is None
    assert (await scope_of(document_ids=[str(document_id)])).document_ids == (document_id,)
    assert (await scope_of(tags=["legal"])).documents == DocumentFilter(tags=("legal",))
    years = {"year": {"$gte": 2020, "$lte": 2026}, "state": {"$in": ["a", None]}}
    assert (await scope_of(filter={"by": {"team": "x"}, **years})).documents == DocumentFilter(
        metadata={"by": {"team": "x"}},
        conditions=(
            MetadataCondition("year", Comparison.AT_LEAST, 2020),
            MetadataCondition("year", Comparison.AT_MOST, 2026),
            MetadataCondition("state", Comparison.IN, ["a", None]),
        ),
    )
    day = "2026-05-01T00:00:00+02:00"
    since = (await scope_of(uploaded_from=day)).documents
    assert since == DocumentFilter(uploaded_from=datetime.fromisoformat(day))


@pytest.mark.parametrize(
    "wrong",
    [
        {"query": " "},
        {"filter": [1]},
        {"tags": [""]},
        {"filter": {"year": {"$where": "1"}}},
        {"filter": {"year": {"$gte": 2020, "or": 1}}},
        {"filter": {"year": {"$gte": [2020]}}},
        {"filter": {"year": {"$in": []}}},
        {"filter": {"year": {"$in": None}}},
        {"filter": {"year": {"$gte": None}}},
        {"filter": {"year": {"$gte": 2020, "$lte": None}}},
        {"filter": {"$or": [{"year": 2020}]}},
        {"filter": {"year": {}}},
        {"filter": {"a": "\x00"}},
        {"filter": {str(number): 1 for number in range(33)}},
        {"uploaded_from": "2026-05-01"},
        {"uploaded_from": "2026-05-02T00:00:00Z", "uploaded_to": "2026-05-01T00:00:00Z"},
        {"metadata": {}},
    ],
)
async def test_a_search_that_cannot_be_meant_is_refused(
    person: Person, wrong: dict[str, object]
) -> None:
    answer = await person.http.post("/search", json={"query": "x", **wrong})
    assert answer.status_code == 422, answer.text


async def test_an_original_is_sent_whole_or_in_part(person: Person) -> None:
    content = b"".join(b"%d, " % number for number in range(1_000))
    document = (await upload(person, "a.txt", content)).json()
    path = f"/documents/{document['document']['id']}/content"
    whole = await person.http.get(path)
    stored, size = whole.content, len(whole.content)
    assert (whole.status_code, whole.headers["accept-ranges"]) == (200, "bytes")
    head = await person.http.head(path)
    assert (head.content, head.headers["content-length"]) == (b"", str(size))

    async def part(wanted: str, **headers: str) -> httpx.Response:
        return await person.http.get(path, headers={"range": wanted, **headers})

    for wanted, start, end in [
        ("bytes=0-0", 0, 1),
        ("bytes=10-99", 10, 100),
        ("bytes=100-", 100, size),
        ("bytes=-7", size - 7, size),
        ("bytes=5-999999", 5, size),
        ("bytes=-999999", 0, size),
    ]:
        answer = await part(wanted)
        assert answer.content == stored[start:end], wanted
        if (start, end) != (0, size):
            assert answer.status_code == 206
            assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{size}"
    for wanted in ("bytes=0-1,5-6", "lines=1-2", "bytes=x-y", "bytes=-", "bytes=5-3"):
        assert (await part(wanted)).content == stored, wanted
    beyond = await part(f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    same = {"if-range": whole.headers["etag"]}
    assert (await part("bytes=0-0", **same)).status_code == 206
    assert (await part("bytes=0-0", **{"if-range": '"another"'})).content == stored
