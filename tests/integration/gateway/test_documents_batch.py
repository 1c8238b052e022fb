"""Batches and archives: what can be taken is taken once, and the rest leaves nothing behind."""

import asyncio
import io
import struct
from collections.abc import AsyncIterator
from uuid import uuid4
from zipfile import ZIP_BZIP2, ZipFile, ZipInfo

import asyncpg
import httpx
import pytest

from planes.shared.stores.objects import FolderObjects
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.uploading import (
    BOUNDARY,
    expect_nothing,
    files_of,
    hang_up_after,
    part,
    zipped,
)

pytestmark = pytest.mark.integration
FILE_BYTES, BATCH_BYTES, BATCH_FILES = 1_500_000, 4_000_000, 25


@pytest.fixture
def overrides() -> dict[str, object]:
    return {
        "max_file_bytes": FILE_BYTES,
        "max_batch_bytes": BATCH_BYTES,
        "max_batch_files": BATCH_FILES,
    }


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


async def send(
    person: Person, *files: tuple[str, bytes], key: str | None = None, **fields: object
) -> httpx.Response:
    return await person.http.post(
        "/documents/batch",
        files=[("files", file) for file in files],
        data=fields,
        headers={"idempotency-key": key} if key else {},
    )


def names(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 202, answer.text
    return [document["name"] for document in answer.json()["documents"]]


def rejected(answer: httpx.Response) -> dict[str, int]:
    return {each["name"]: each["problem"]["status"] for each in answer.json()["rejected"]}


async def test_files_that_cannot_be_taken_do_not_sink_the_others(
    person: Person, gateway: Gateway
) -> None:
    answer = await send(
        person,
        ("a.txt", b"first"),
        ("setup.exe", b"MZ\x90\x00" + bytes(100)),
        ("large.txt", b"x" * (FILE_BYTES + 1)),
        ("empty.txt", b""),
        ("again.txt", b"first"),
        ("b.md", b"# second"),
        tags=["x", "y"],
        metadata='{"n": 1}',
    )
    assert names(answer) == ["a.txt", "b.md"]
    assert rejected(answer) == {"setup.exe": 415, "large.txt": 413, "empty.txt": 422}
    for document in answer.json()["documents"]:
        assert (document["tags"], document["metadata"]) == (["x", "y"], {"n": 1})
    assert files_of(gateway) == ["original"] * 2
    job = (await person.http.get(f"/jobs/{answer.json()['job_id']}")).json()
    assert job["progress"]["total"] == 2
    usage = (await person.http.get("/billing/usage")).json()["quotas"]
    assert usage["documents"]["used"] == 2
    assert usage["storage_bytes"]["used"] == len(b"first") + len(b"# second")


REFUSED: list[tuple[list[tuple[str, bytes]], int]] = [
    ([("a.exe", b"MZ\x00"), ("b.exe", b"MZ\x00")], 415),
    ([("a.txt", b""), ("b.txt", b"")], 422),
    ([("a.txt", b"x" * (FILE_BYTES + 1))], 413),
    ([("a.txt", b""), ("b.exe", b"MZ\x00")], 422),
    ([("a.zip", b"PK but no archive")], 422),
    ([("a.zip", b"")], 422),
    ([("a.zip", zipped([]))], 422),
    ([("a.zip", zipped([("folder/", b""), ("__MACOSX/._a.txt", b"x")]))], 422),
    ([("a.zip", zipped([("b.zip", zipped([("c.txt", b"x")]))]))], 415),
    ([("a.zip", zipped([(f"{n}.txt", b"x") for n in range(BATCH_FILES + 1)]))], 413),
    ([(f"{n}.txt", str(n).encode()) for n in range(BATCH_FILES + 1)], 413),
    ([(f"{n}.zip", b"PK") for n in range(BATCH_FILES + 1)], 413),
    ([(f"{n}.zip", zipped([])) for n in range(BATCH_FILES + 1)], 413),
    ([(f"{n}.txt", b"x" * 1_400_000) for n in range(4)], 413),
    ([], 400),
]


async def test_a_refused_batch_leaves_nothing_behind(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    for files, status in REFUSED:
        answer = await send(person, *files)
        assert answer.status_code == status, (files[:1], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        await expect_nothing(gateway, admin)


async def test_the_problem_of_a_refused_batch_lists_every_file(person: Person) -> None:
    answer = await send(person, ("a.txt", b""), ("b.exe", b"MZ\x00"))
    assert rejected(answer) == {"a.txt": 422, "b.exe": 415}
    assert "None of the 2 files" in answer.json()["detail"]


async def test_the_files_of_an_archive_become_documents_with_harmless_names(
    person: Person, gateway: Gateway
) -> None:
    link = ZipInfo("link.txt")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    archive = zipped(
        [
            ("folder/", b""),
            ("folder/sub/a.txt", b"one"),
            ("/etc/passwd.txt", b"two"),
            ("../../../escape.txt", b"three"),
            ("..\\..\\windows.txt", b"four"),
            ("Übersicht.md", b"five"),
            ("copy of a.txt", b"one"),
            ("nested.zip", zipped([("x.txt", b"x")])),
            ("nested.tar.gz", b"\x1f\x8b"),
            (link, b"/etc/passwd"),
            ("program.exe", b"MZ\x00"),
            ("__MACOSX/._a.txt", b"litter"),
            ("folder/.DS_Store", b"litter"),
        ]
    )
    answer = await person.http.post(
        "/documents/batch-upload", files={"file": ("Archive.ZIP", archive)}, data={"tags": "t"}
    )
    assert names(answer) == ["a.txt", "passwd.txt", "escape.txt", "windows.txt", "Übersicht.md"]
    assert rejected(answer) == {
        "nested.zip": 415,
        "nested.tar.gz": 415,
        "link.txt": 422,
        "program.exe": 415,
    }
    assert files_of(gateway) == ["original"] * 5, "the archive itself is gone"
    outside = list(gateway.objects_dir.parent.rglob("*escape*"))
    assert outside == []
    first = answer.json()["documents"][0]
    assert first["tags"] == ["t"]
    content = await person.http.get(f"/documents/{first['id']}/content")
    assert content.content == b"one"


async def test_archives_stand_beside_files(person: Person) -> None:
    archive = zipped([("b.txt", b"b"), ("c.txt", b"c")])
    answer = await send(person, ("a.txt", b"a"), ("b.zip", archive), ("bad.zip", b"PK"))
    assert names(answer) == ["a.txt", "b.txt", "c.txt"]
    assert rejected(answer) == {"bad.zip": 422}


def _with_names(names: list[bytes], content: bytes = b"text") -> bytes:
    """Return an archive whose names are bytes of an unnamed encoding, as old programs write."""
    blank = zipped([("?" * len(name) + f"{n:02}.txt", content) for n, name in enumerate(names)])
    for n, name in enumerate(names):
        blank = blank.replace(b"?" * len(name) + f"{n:02}.txt".encode(), name + b"%02d.txt" % n)
    return blank


async def test_names_of_archives_are_read_in_utf_8_and_in_cp437(person: Person) -> None:
    old, silent = "Übung".encode("cp437"), "Grüße".encode()
    answer = await send(
        person, ("a.zip", _with_names([old])), ("b.zip", _with_names([silent], b"x"))
    )
    assert names(answer) == ["Übung00.txt", "Grüße00.txt"]


async def test_an_encrypted_archive_is_refused_with_a_word_about_the_password(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    plain = bytearray(zipped([("a.txt", b"secret")]))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        plain[plain.index(signature) + flags] |= 1
    answer = await send(person, ("a.zip", bytes(plain)))
    assert answer.status_code == 422
    assert "password" in answer.json()["detail"]
    await expect_nothing(gateway, admin)


class TestBombs:
    """Archives made to harm: refused before they take memory or disk."""

    async def test_a_member_that_is_compressed_too_well_is_refused(
        self, person: Person, gateway: Gateway, admin: asyncpg.Connection
    ) -> None:
        answer = await send(person, ("a.zip", zipped([("a.txt", b"x" * 1_400_000)])))
        assert answer.status_code == 422
        assert "compressed" in answer.json()["detail"]
        await expect_nothing(gateway, admin)

    async def test_members_that_are_too_much_together_are_refused(
        self, person: Person, gateway: Gateway, admin: asyncpg.Connection
    ) -> None:
        members = [(f"{n}.txt", bytes([97 + n]) * 1_000_000) for n in range(5)]
        answer = await send(person, ("a.zip", zipped(members)))
        assert answer.status_code == 413
        await expect_nothing(gateway, admin)

    async def test_a_member_that_lies_about_its_size_is_refused_alone(
        self, person: Person, gateway: Gateway
    ) -> None:
        bomb = bytearray(zipped([("lie.txt", b"x" * 900_000), ("b.txt", b"honest")]))
        start = bomb.index(b"PK\x01\x02") + 24
        bomb[start : start + 4] = struct.pack("<I", 10)
        answer = await send(person, ("a.zip", bytes(bomb)))
        assert names(answer) == ["b.txt"]
        assert rejected(answer) == {"lie.txt": 422}
        assert files_of(gateway) == ["original"]

    async def test_two_members_of_the_same_bytes_are_refused(self, person: Person) -> None:
        overlapping = bytearray(zipped([("a.txt", b"one" * 50), ("b.txt", b"two" * 50)]))
        directory = overlapping.rindex(b"PK\x01\x02")
        overlapping[directory + 42 : directory + 46] = struct.pack("<I", 0)
        answer = await send(person, ("a.zip", bytes(overlapping)))
        assert "b.txt" in rejected(answer)

    async def test_other_ways_of_compression_are_refused(self, person: Person) -> None:
        buffer = io.BytesIO()
        with ZipFile(buffer, "w", ZIP_BZIP2) as archive:
            archive.writestr("a.txt", b"x" * 1000)
        answer = await send(person, ("a.zip", buffer.getvalue()))
        assert answer.status_code == 415

    async def test_a_huge_directory_is_not_read(
        self, person: Person, gateway: Gateway, admin: asyncpg.Connection
    ) -> None:
        entry = zipped([("a" * 200, b"")])
        directory = entry[entry.index(b"PK\x01\x02") : entry.index(b"PK\x05\x06")]
        many = directory * 12_000
        end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 12_000, 12_000, len(many), 0, 0)
        answer = await send(person, ("a.zip", many + end))
        assert answer.status_code == 422
        await expect_nothing(gateway, admin)


async def test_a_batch_that_was_sent_before_is_the_same_documents(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    first = await send(person, ("a.txt", b"a"), ("b.txt", b"b"))
    await admin.execute("UPDATE document_versions SET status = 'ready'")
    again = await send(person, ("b.txt", b"b"), ("c.txt", b"c"), ("a.txt", b"a"))
    assert names(again) == ["b.txt", "c.txt", "a.txt"]
    ids = {each["name"]: each["id"] for each in first.json()["documents"]}
    assert {each["name"]: each["id"] for each in again.json()["documents"]}.items() >= ids.items()
    assert len(files_of(gateway)) == 3
    assert await admin.fetchval("SELECT count(*) FROM document_versions") == 3
    statuses = {each["name"]: each["status"] for each in again.json()["documents"]}
    assert statuses == {"a.txt": "ready", "b.txt": "ready", "c.txt": "received"}


async def test_failed_documents_are_tried_again_with_the_bytes_that_came_now(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    await send(person, ("a.txt", b"a"), ("b.txt", b"b"))
    await admin.execute("UPDATE document_versions SET status = 'failed', attempts = 3")
    for path in gateway.objects_dir.rglob("original"):
        path.unlink()
    again = await send(person, ("a.txt", b"a"), ("b.txt", b"b"))
    assert {each["status"] for each in again.json()["documents"]} == {"received"}
    assert sorted(path.read_bytes() for path in gateway.objects_dir.rglob("original")) == [
        b"a",
        b"b",
    ]
    assert await admin.fetchval("SELECT sum(attempts) FROM document_versions") == 0
    assert await admin.fetchval("SELECT count(*) FROM uploads") == 0


async def test_versions_are_locked_before_the_tenant_so_that_nobody_waits_in_a_circle(
    person: Person, admin: asyncpg.Connection
) -> None:
    await send(person, ("a.txt", b"a"))

    async def is_waited_for() -> bool:
        query = "SELECT pg_backend_pid() = ANY (pg_blocking_pids(pid)) FROM pg_stat_activity"
        return any(row[0] for row in await admin.fetch(query))

    async with admin.transaction():  # as a worker whose document has just failed
        await admin.execute("SELECT FROM document_versions FOR UPDATE")
        again = asyncio.create_task(send(person, ("a.txt", b"a"), ("b.txt", b"b")))
        await until(is_waited_for)
        await admin.execute("SELECT FROM tenants FOR KEY SHARE NOWAIT")
    assert names(await again) == ["a.txt", "b.txt"]


async def test_an_accepted_file_stays_accepted_where_a_copy_of_it_cannot_be_removed(
    person: Person, gateway: Gateway, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: FolderObjects, prefix: str) -> int:
        raise OSError(prefix)

    monkeypatch.setattr(FolderObjects, "remove_prefix", fail)
    answer = await send(person, ("a.txt", b"a"), ("again.txt", b"a"), ("b.exe", b"MZ\x00"))
    assert names(answer) == ["a.txt"]
    assert await admin.fetchval("SELECT count(*) FROM uploads") > 0, "left to the sweeper"
    monkeypatch.undo()
    await admin.execute("UPDATE uploads SET expires_at = now()")
    await gateway.app.state.uploads.sweep()
    assert files_of(gateway) == ["original"]


async def test_batches_at_once_fill_the_quota_exactly(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    await admin.execute("UPDATE plans SET documents = 10 WHERE name = 'free'")
    answers = await asyncio.gather(
        *(
            send(person, *((f"{batch}-{n}.txt", f"{batch} {n}".encode()) for n in range(6)))
            for batch in range(4)
        )
    )
    taken = [name for answer in answers if answer.status_code == 202 for name in names(answer)]
    assert len(taken) == 10
    assert {answer.status_code for answer in answers} <= {202, 402}
    partly = [answer for answer in answers if answer.status_code == 202 and rejected(answer)]
    for answer in partly:
        assert set(rejected(answer).values()) == {402}
    assert len(files_of(gateway)) == 10
    assert await admin.fetchval("SELECT sum(documents_used) FROM tenants") == 10


async def test_a_quota_of_storage_takes_what_fits(
    person: Person, admin: asyncpg.Connection
) -> None:
    await admin.execute("UPDATE plans SET storage_bytes = 10 WHERE name = 'free'")
    answer = await send(person, ("a.txt", b"12345"), ("b.txt", b"1234567"), ("c.txt", b"abcde"))
    assert names(answer) == ["a.txt", "c.txt"]
    assert rejected(answer) == {"b.txt": 402}
    full = await send(person, ("d.txt", b"x"))
    assert full.status_code == 402
    assert (await send(person, ("a.txt", b"12345"))).status_code == 202, "known bytes add nothing"


async def test_the_same_batch_many_times_at_once_makes_each_document_once(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    files = [(f"{n}.txt", f"text {n}".encode()) for n in range(8)]
    answers = await asyncio.gather(*(send(person, *files) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({each["id"] for answer in answers for each in answer.json()["documents"]}) == 8
    assert len(files_of(gateway)) == 8
    assert await admin.fetchval("SELECT count(*) FROM uploads") == 0


async def test_a_repeated_request_is_answered_as_before(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    key, files = str(uuid4()), [("a.txt", b"a"), ("b.exe", b"MZ\x00")]
    first = await send(person, *files, key=key)
    again = await send(person, *files, key=key)
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    other = await send(person, ("a.txt", b"other"), key=key)
    assert other.status_code == 422
    assert files_of(gateway) == ["original"]
    assert await admin.fetchval("SELECT count(*) FROM jobs") == 1


@pytest.mark.parametrize("path", ["/documents", "/documents/batch"])
async def test_who_hangs_up_in_the_middle_leaves_nothing(
    person: Person, gateway: Gateway, admin: asyncpg.Connection, path: str
) -> None:
    field = "file" if path == "/documents" else "files"
    body = part(f'form-data; name="{field}"; filename="a.txt"', b"x" * 1_200_000)
    body += part(f'form-data; name="{field}"; filename="b.txt"', b"y" * 1_200_000)[:-1000]
    await hang_up_after(person, path, body)

    async def is_gone() -> bool:
        return files_of(gateway) == [] and await admin.fetchval("SELECT count(*) FROM uploads") == 0

    await until(is_gone)
    await expect_nothing(gateway, admin)


HEAD = 'form-data; name="files"; filename="a.txt"'
FILE = part(HEAD, b"hello")
END = f"--{BOUNDARY}--\r\n".encode()


FORM = f"multipart/form-data; boundary={BOUNDARY}"
MALFORMED = [
    (FORM, FILE, 400),
    (FORM, FILE[:-20], 400),
    (FORM, b"", 400),
    (FORM, END, 422),
    (FORM, b"no form" + END, 400),
    ("multipart/form-data", FILE + END, 400),
    ("multipart/form-data; boundary=", FILE + END, 400),
    ("multipart/form-data; boundary=" + "x" * 300, FILE + END, 400),
    ("multipart/mixed; boundary=" + BOUNDARY, FILE + END, 400),
    ("application/json", b"{}", 400),
    ("", FILE + END, 400),
    (FORM, part("form-data", b"x") + END, 400),
    (FORM, part('file; name="files"', b"x") + END, 400),
    (
        FORM,
        FILE + part('form-data; name="tenant_id"', b"x") + END,
        422,
    ),
    (
        FORM,
        FILE + part('form-data; name="tags"', b"\xff") + END,
        422,
    ),
    (
        FORM,
        FILE + part('form-data; name="tags"; filename="t"', b"x") + END,
        422,
    ),
    (
        FORM,
        FILE + part('form-data; name="metadata"', b"x" * 100_000) + END,
        422,
    ),
    (FORM, part('form-data; name="files"', b"x"), 422),
    (
        FORM,
        FILE + b"".join(part('form-data; name="tags"', b"x") for _ in range(40)) + END,
        422,
    ),
]


async def test_a_malformed_form_is_refused_and_leaves_nothing(
    person: Person, gateway: Gateway, admin: asyncpg.Connection
) -> None:
    for content_type, body, status in MALFORMED:
        headers = {"content-type": content_type} if content_type else {}
        answer = await person.http.post("/documents/batch", content=body, headers=headers)
        assert answer.status_code == status, (content_type, body[-100:], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        await expect_nothing(gateway, admin)


async def test_nobody_sends_a_batch_without_signing_in(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as http:
        answer = await http.post("/documents/batch", files={"files": ("a.txt", b"hello")})
    assert answer.status_code == 401


class TestTexts:
    """`POST /ingest`."""

    async def test_texts_become_documents_of_one_job(
        self, person: Person, gateway: Gateway
    ) -> None:
        body = {
            "documents": [
                {"name": "hours.md", "text": "# Hours\n\nFrom 9 to 5.", "metadata": {"n": 1}},
                {"name": "note", "text": "Grüße"},
                {"name": "report.pdf", "text": "%PDF- is how they start"},
                {"name": "note again", "text": "Grüße"},
            ]
        }
        answer = await person.http.post("/ingest", json=body)
        assert names(answer) == ["hours.md", "note", "report.pdf"]
        types = [each["media_type"] for each in answer.json()["documents"]]
        assert types == ["text/markdown", "text/plain", "text/plain"]
        assert [each["metadata"] for each in answer.json()["documents"]] == [{"n": 1}, {}, {}]
        assert answer.json()["rejected"] == []
        note = answer.json()["documents"][1]
        content = await person.http.get(f"/documents/{note['id']}/content")
        assert content.content.decode() == "Grüße"
        assert len(files_of(gateway)) == 3

    async def test_a_repeated_request_has_no_second_effect(
        self, person: Person, admin: asyncpg.Connection
    ) -> None:
        body, key = {"documents": [{"name": "a", "text": "b"}]}, {"idempotency-key": str(uuid4())}
        first = await person.http.post("/ingest", json=body, headers=key)
        again = await person.http.post("/ingest", json=body, headers=key)
        assert again.json() == first.json()
        assert again.headers["idempotency-replayed"] == "true"
        assert await admin.fetchval("SELECT count(*) FROM jobs") == 1

    async def test_what_is_no_text_is_refused(
        self, person: Person, gateway: Gateway, admin: asyncpg.Connection
    ) -> None:
        wrong: list[list[dict[str, object]]] = [
            [],
            [{"name": "a"}],
            [{"name": "a", "text": " \n"}],
            [{"name": "", "text": "b"}],
            [{"name": "..", "text": "b"}],
            [{"name": "a", "text": "b\x00"}],
            [{"name": "a", "text": "b", "metadata": {"x": "y" * 20_000}}],
            [{"name": "a", "text": "b", "tenant_id": "x"}],
            [{"name": "a", "text": "b"}] * 1001,
        ]
        for documents in wrong:
            answer = await person.http.post("/ingest", json={"documents": documents})
            assert answer.status_code == 422, answer.text
        await expect_nothing(gateway, admin)
