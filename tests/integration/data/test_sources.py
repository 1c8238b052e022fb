"""Watched folders and object stores, against a real registry."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import dagster as dg
import pytest
from obstore.store import MemoryStore, ObjectStore

from planes.data.composition_sources import open_place
from planes.data.definitions import definitions
from planes.data.pipeline.source_copies import SourceCopies
from planes.data.pipeline.source_places import FolderPlace, ObjectPlace, Place
from planes.data.pipeline.source_registry import SourceRegistry, WatchedSource
from planes.data.pipeline.sources import Scanned, Scanner
from planes.shared.clients.dagster import DagsterClient
from planes.shared.domain import new_id, original_key
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.postgres import Database
from services.cli.source_desk import NewSource, SourceDesk
from tests.integration.data.conftest import Platform, ingest

LIMIT = 5000


@dataclass
class Watch:
    """One source, and the scanner that looks at it."""

    platform: Platform
    scanner: Scanner
    registry: SourceRegistry
    copies: SourceCopies
    tenant_id: UUID
    source_id: UUID
    folder: Path
    store: ObjectStore | None = None

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file that has not been touched for a while."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        then = time.time() - 10
        os.utime(path, (then, then))
        return path

    async def scan(self) -> dict[str, int]:
        (scanned,) = [one for one in await self.scan_all() if one.source_id == self.source_id]
        assert scanned.error is None, scanned.error
        return {name: number for name, number in scanned.counts.items() if number}

    async def scan_all(self) -> list[Scanned]:
        return await self.scanner.scan(seconds=30)

    async def document(self, key: str) -> asyncpg.Record | None:
        return await self.platform.admin.fetchrow(
            "SELECT d.*, f.skipped, f.missing_since, v.number, v.sha256 AS newest_sha256 "
            "FROM source_files f LEFT JOIN documents d ON d.id = f.document_id "
            "LEFT JOIN document_versions v ON v.id = d.newest_version_id "
            "WHERE f.source_id = $1 AND f.key = $2",
            self.source_id,
            key,
        )

    async def count(self, table: str) -> int:
        return int(await self.platform.admin.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608

    async def used(self) -> tuple[int, int]:
        row = await self.platform.admin.fetchrow(
            "SELECT documents_used, storage_bytes_used FROM tenants WHERE id = $1", self.tenant_id
        )
        return row["documents_used"], row["storage_bytes_used"]

    async def delete_what_is_missing(self) -> None:
        await self.platform.admin.execute(
            "UPDATE sources SET delete_missing = true WHERE id = $1", self.source_id
        )

    async def let_missing_ones_be_gone(self) -> None:
        await self.platform.admin.execute(
            "UPDATE source_files SET missing_since = missing_since - interval '1 hour'"
        )


@asynccontextmanager
async def watching(
    platform: Platform, folder: Path, store: ObjectStore | None = None
) -> AsyncIterator[Watch]:
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 (nothing else runs)
    tenant_id, source_id = await platform.tenant(), new_id()
    await platform.admin.execute(
        "INSERT INTO sources (id, tenant_id, owner_id, kind, location, tags) "
        "SELECT $1, $2, user_id, $3, $4, '{watched}' FROM memberships WHERE tenant_id = $2",
        source_id,
        tenant_id,
        "folder" if store is None else "s3",
        str(folder) if store is None else "s3://bucket/prefix",
    )
    database = Database(platform.settings.database_url.get_secret_value(), service="test")
    registry = SourceRegistry(database, missing_for=timedelta(minutes=1))
    copies = SourceCopies(database, registry, platform.objects, max_bytes=LIMIT)

    def place_of(source: WatchedSource) -> Place:
        return open_place(source, platform.settings) if store is None else ObjectPlace(store)

    await database.open()
    scanner = Scanner(registry, copies, place_of)
    yield Watch(platform, scanner, registry, copies, tenant_id, source_id, folder, store)
    await database.close()


@pytest.fixture
async def watch(platform: Platform, tmp_path: Path) -> AsyncIterator[Watch]:
    async with watching(platform, tmp_path / "watched") as one:
        yield one


async def test_a_new_file_becomes_a_document_like_an_uploaded_one(watch: Watch) -> None:
    watch.write("reports/spring.md", "# Spring\n\nThe river rises.")
    assert await watch.scanner.has_work(seconds=10)
    assert await watch.scan() == {"added": 1}
    document = await watch.document("reports/spring.md")
    assert document is not None
    assert (document["name"], document["tags"]) == ("spring.md", ["watched"])
    assert await watch.used() == (1, 26)
    assert await watch.count("uploads") == 0
    key = original_key(watch.tenant_id, document["id"], document["newest_version_id"])
    assert hashlib.sha256(await watch.platform.objects.get(key)).digest() == document["sha256"]
    job = await watch.platform.admin.fetchrow(
        "SELECT j.* FROM jobs j JOIN job_items i ON i.job_id = j.id WHERE i.document_id = $1",
        document["id"],
    )
    assert (job["created_by"], job["open_items"]) == (document["owner_id"], 1)
    assert not await watch.scanner.has_work(seconds=10)
    assert await watch.scan() == {}


async def test_a_changed_file_is_a_new_version_and_the_old_one_is_searchable_until_then(
    watch: Watch,
) -> None:
    watch.write("a.txt", "The first text of this file.")
    await watch.scan()
    async with watch.platform.run("first") as pipeline:
        await ingest(pipeline)
    before = await watch.document("a.txt")
    watch.write("a.txt", "The second text of this file, longer.")
    assert await watch.scan() == {"changed": 1}
    waiting = await watch.document("a.txt")
    assert before is not None
    assert waiting is not None
    assert (waiting["id"], waiting["number"]) == (before["id"], 2)
    assert waiting["published_version_id"] == before["newest_version_id"]
    async with watch.platform.run("second") as pipeline:
        await ingest(pipeline)
    after = await watch.document("a.txt")
    assert after is not None
    assert after["published_version_id"] == waiting["newest_version_id"]
    assert await watch.used() == (1, 28 + 37)


async def test_a_touched_file_is_no_new_version(watch: Watch) -> None:
    path = watch.write("a.txt", "A text that stays as it is.")
    await watch.scan()
    os.utime(path, (1, 1))
    assert await watch.scan() == {"unchanged": 1}
    assert await watch.count("document_versions") == 1
    assert len(watch.platform.files()) == 1


async def test_a_vanished_file_keeps_its_document(watch: Watch) -> None:
    path = watch.write("a.txt", "A text that vanishes.")
    watch.write("b.txt", "A text that stays.")
    await watch.scan()
    path.unlink()
    assert await watch.scan() == {"missing": 1}
    await watch.let_missing_ones_be_gone()
    assert await watch.scan() == {}
    document = await watch.document("a.txt")
    assert document is not None
    assert document["deleted_at"] is None
    watch.write("a.txt", "A text that vanishes.")
    await watch.scan()
    back = await watch.document("a.txt")
    assert back is not None
    assert back["missing_since"] is None


async def test_a_vanished_file_takes_its_document_along_where_the_source_says_so(
    watch: Watch,
) -> None:
    await watch.delete_what_is_missing()
    path = watch.write("a.txt", "A text that vanishes.")
    watch.write("b.txt", "A text that stays.")
    await watch.scan()
    path.unlink()
    assert await watch.scan() == {"missing": 1}
    assert await watch.scan() == {}  # not for a minute
    await watch.let_missing_ones_be_gone()
    assert await watch.scan() == {"deleted": 1}
    assert await watch.used() == (1, 18)
    gone = await watch.platform.admin.fetchrow(
        "SELECT d.deleted_at, l.completed_at, a.actor_kind FROM documents d "
        "JOIN deletions l ON l.document_id = d.id "
        "JOIN audit_log a ON a.subject = 'document:' || d.id AND a.action = 'document.deleted' "
        "WHERE d.deleted_at IS NOT NULL"
    )
    assert gone["actor_kind"] == "system"
    async with watch.platform.run("removal") as pipeline:
        await pipeline.remove()
    assert len(watch.platform.files()) == 1


async def test_an_empty_place_deletes_nothing(watch: Watch) -> None:
    await watch.delete_what_is_missing()
    path = watch.write("a.txt", "The only text.")
    await watch.scan()
    path.unlink()
    (scanned,) = await watch.scan_all()
    assert "not mounted" in (scanned.error or "")
    assert await watch.count("deletions") == 0


async def test_a_renamed_file_keeps_its_document(watch: Watch) -> None:
    path = watch.write("draft.txt", "A text that gets another name.")
    await watch.scan()
    before = await watch.document("draft.txt")
    path.rename(watch.folder / "final.txt")
    assert await watch.scan() == {"missing": 1, "renamed": 1}
    after = await watch.document("final.txt")
    assert before is not None
    assert after is not None
    assert (after["id"], after["name"]) == (before["id"], "final.txt")
    assert await watch.document("draft.txt") is None


async def test_what_cannot_become_a_document_is_skipped_with_the_reason(watch: Watch) -> None:
    watch.write("a.txt", "The same text twice.")
    watch.write("b.txt", "The same text twice.")
    watch.write("empty.txt", "")
    watch.write("large.txt", "x" * (LIMIT + 1))
    watch.write("liar.pdf", "no PDF at all")
    watch.write("program.exe", b"\x7fELF")
    assert await watch.scan() == {"added": 1, "skipped": 5}
    reasons = {
        row["key"]: row["skipped"]
        for row in await watch.platform.admin.fetch("SELECT * FROM source_files")
    }
    assert reasons["a.txt"] is None
    assert "same content" in reasons["b.txt"]
    assert "empty" in reasons["empty.txt"]
    assert "larger than 5,000 bytes" in reasons["large.txt"]
    assert "plain text" in reasons["liar.pdf"]
    assert "cannot be read" in reasons["program.exe"]
    assert len(watch.platform.files()) == 1
    assert await watch.scan() == {}


async def test_links_hidden_files_and_files_still_written_are_left_alone(
    watch: Watch, tmp_path: Path
) -> None:
    (tmp_path / "secret.txt").write_text("A text outside of the folder.")
    (watch.folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (watch.folder / "folder").symlink_to(tmp_path)
    watch.write(".hidden.txt", "A hidden text.")
    watch.write(".git/config.txt", "Another hidden text.")
    (watch.folder / "young.txt").write_text("A text that is perhaps not complete.")
    assert await watch.scan() == {}
    assert await watch.count("source_files") == 0


async def test_the_quotas_hold_for_watched_files_too(watch: Watch) -> None:
    await watch.platform.admin.execute("UPDATE plans SET documents = 1 WHERE name = 'free'")
    for name in ("a.txt", "b.txt"):
        watch.write(name, f"The text of {name}.")
    assert await watch.scan() == {"added": 1, "skipped": 1}
    assert await watch.used() == (1, 18)
    watch.write("a.txt", "A new version adds no document.")
    assert await watch.scan() == {"changed": 1}
    await watch.platform.admin.execute("UPDATE plans SET documents = 2 WHERE name = 'free'")
    await watch.platform.admin.execute(
        "UPDATE source_files SET retry_at = now() WHERE skipped IS NOT NULL"
    )
    assert await watch.scan() == {"added": 1}


async def test_one_broken_source_stops_no_other(watch: Watch) -> None:
    await watch.platform.admin.execute(
        "INSERT INTO sources (id, tenant_id, owner_id, kind, location) "
        "SELECT $1, tenant_id, owner_id, 'folder', unnest($2::text[]) FROM sources LIMIT 1",
        UUID(int=0),
        ["/nowhere/at/all"],
    )
    await watch.platform.admin.execute(
        "INSERT INTO sources (id, tenant_id, owner_id, kind, location) "
        "SELECT $1, tenant_id, owner_id, 'folder', $2 FROM sources WHERE id = $3",
        UUID(int=1),
        str(watch.platform.settings.objects_dir),
        watch.source_id,
    )
    watch.write("a.txt", "A text in a good folder.")
    assert await watch.scanner.has_work(seconds=10)
    assert await watch.scan() == {"added": 1}
    errors = {
        row["id"]: row["last_error"]
        for row in await watch.platform.admin.fetch("SELECT id, last_error FROM sources")
    }
    assert "No such file" in errors[UUID(int=0)]
    assert "platform's own files" in errors[UUID(int=1)]
    assert errors[watch.source_id] is None


async def test_a_source_that_is_removed_during_its_scan_stops_no_other(watch: Watch) -> None:
    (source,) = await watch.registry.watched()
    await watch.platform.admin.execute("DELETE FROM sources")
    await watch.registry.skip(source, "a.exe", "mark", "Nobody reads it.", None)
    assert await watch.count("source_files") == 0


async def test_nothing_comes_in_for_an_owner_who_has_left(watch: Watch) -> None:
    watch.write("a.txt", "A text of nobody.")
    await watch.platform.admin.execute("DELETE FROM memberships")
    (scanned,) = await watch.scan_all()
    assert "no longer a member" in (scanned.error or "")
    assert await watch.count("documents") == 0


async def test_a_copy_that_cannot_be_registered_leaves_nothing_behind(watch: Watch) -> None:
    watch.write("a.txt", "A text that never arrives.")
    await watch.platform.admin.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN RAISE SQLSTATE ''57P01''; END'"
    )
    await watch.platform.admin.execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON documents EXECUTE FUNCTION refuse()"
    )
    (scanned,) = await watch.scan_all()
    assert scanned.error is not None
    assert await watch.count("documents") == 0
    assert await watch.used() == (0, 0)
    assert watch.platform.files() == []
    assert await watch.count("uploads") == 0
    await watch.platform.admin.execute("DROP TRIGGER refuse ON documents")
    assert await watch.scan() == {"added": 1}


async def test_a_copy_stands_under_an_intent_so_that_a_killed_scan_leaves_no_stray_file(
    watch: Watch,
) -> None:
    path = watch.write("a.txt", "A text on its way.")
    place = FolderPlace(watch.folder)
    (source,) = await watch.registry.watched()
    blocks = place.read((await place.list())[path.name])
    async with watch.copies.copy(source, path.name, blocks, None) as copy:
        intent = await watch.platform.admin.fetchrow("SELECT * FROM uploads")
        assert (intent["version_id"], intent["tenant_id"]) == (copy.version_id, watch.tenant_id)
        assert intent["expires_at"] < datetime.now(UTC) + timedelta(minutes=11)
        assert watch.platform.files() == [
            original_key(watch.tenant_id, copy.document_id, copy.version_id)
        ]
    assert watch.platform.files() == []


async def test_the_objects_below_a_prefix_become_documents(
    platform: Platform, tmp_path: Path
) -> None:
    store = MemoryStore()
    async with watching(platform, tmp_path / "unused", store) as watch:
        await store.put_async("2026/a.txt", b"A text in an object store.")
        await store.put_async("2026/.hidden", b"A hidden one.")
        assert await watch.scan() == {"added": 1}
        assert await watch.scan() == {}
        await store.put_async("2026/a.txt", b"Another text in an object store.")
        assert await watch.scan() == {"changed": 1}
        document = await watch.document("2026/a.txt")
        assert document is not None
        assert (document["name"], document["number"]) == ("a.txt", 2)


async def test_an_object_that_changes_while_it_is_listed_waits_for_the_next_scan() -> None:
    store = MemoryStore()
    await store.put_async("a.txt", b"old")
    place = ObjectPlace(store)
    listed = await place.list()
    await store.put_async("a.txt", b"new")
    with pytest.raises(Exception, match=r"a\.txt"):
        await anext(place.read(listed["a.txt"]))


async def test_no_other_tenants_source_can_be_written_to(watch: Watch) -> None:
    other = await watch.platform.tenant()
    database = Database(watch.platform.settings.database_url.get_secret_value(), service="test")
    await database.open()
    try:
        async with database.tenant(other) as connection:
            outcome = await connection.fetchval(
                "SELECT register_source_file($1, 'a', 'm', 'a.txt', 'text/plain', 1, 'x', $2, $3,"
                " $4)",
                watch.source_id,
                new_id(),
                new_id(),
                new_id(),
            )
            assert await connection.fetchval("SELECT count(*) FROM sources") == 0
        assert outcome == "gone"
    finally:
        await database.close()


async def test_the_operator_adds_lists_and_removes_sources(
    watch: Watch, database_urls: dict[str, str]
) -> None:
    admin = watch.platform.admin
    await admin.execute("UPDATE users SET email = 'Ann@acme.test', email_key = 'ann@acme.test'")
    database = Database(database_urls["admin"], service="test")
    await database.open()
    desk = SourceDesk(database, DagsterClient("http://127.0.0.1:1"))
    other = watch.write("second/program.exe", b"\x7fELF").parent
    new = NewSource(watch.tenant_id, "ANN@acme.test", "folder", str(other), ("a",), False)
    try:
        source_id = await desk.add(new)
        with pytest.raises(Conflict):
            await desk.add(new)
        with pytest.raises(NotFound):
            await desk.add(replace(new, owner="bob@acme.test"))
        await watch.scan_all()
        row = next(one for one in await desk.all() if one["id"] == source_id)
        assert (row["email"], row["documents"], row["skipped"]) == ("Ann@acme.test", 0, 1)
        assert [one["key"] for one in await desk.skipped(source_id)] == ["program.exe"]
        await desk.remove(source_id)
        with pytest.raises(NotFound):
            await desk.remove(source_id)
    finally:
        await database.close()
    acts = await admin.fetch("SELECT action, actor_kind FROM audit_log ORDER BY id")
    assert [tuple(one) for one in acts] == [
        ("source.added", "operator"),
        ("source.removed", "operator"),
    ]


async def test_dagster_sees_what_a_scan_did(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = watch.platform.settings
    monkeypatch.setenv("DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("OBJECTS_DIR", str(settings.objects_dir))
    watch.write("a.txt", "A text for the job.")
    look = definitions.resolve_sensor_def("watched_sources")
    job = definitions.resolve_job_def("scan_sources")
    with dg.DagsterInstance.ephemeral() as instance:
        with dg.build_sensor_context(instance=instance) as context:
            found = await asyncio.to_thread(look.evaluate_tick, context)
        assert len(found.run_requests or ()) == 1
        assert (await asyncio.to_thread(job.execute_in_process, instance=instance)).success
        event = instance.fetch_observations(dg.AssetKey("source_files"), limit=1).records[0]
        assert event.asset_observation is not None
        metadata = event.asset_observation.metadata
        assert (metadata["added"].value, metadata["errors"].value) == (1, 0)
        with dg.build_sensor_context(instance=instance) as context:
            quiet = await asyncio.to_thread(look.evaluate_tick, context)
        assert not quiet.run_requests
        check = definitions.resolve_job_def("reembedding_check")
        assert (await asyncio.to_thread(check.execute_in_process, instance=instance)).success
        need = instance.get_latest_materialization_event(dg.AssetKey("reembedding_need"))
    assert need is not None
    assert need.asset_materialization is not None
    assert need.asset_materialization.metadata["needed"].value is False


async def test_what_a_search_can_show_changes_with_the_corpus_version(watch: Watch) -> None:
    async def corpus() -> int:
        query = "SELECT corpus_version FROM tenants WHERE id = $1"
        return int(await watch.platform.admin.fetchval(query, watch.tenant_id))

    await watch.delete_what_is_missing()
    path = watch.write("draft.txt", "A text that gets another name, and is deleted then.")
    watch.write("other.txt", "A text that stays where it is.")
    assert await watch.scan() == {"added": 2}
    empty = await corpus()
    async with watch.platform.run("run") as pipeline:
        await ingest(pipeline)
    published = await corpus()
    assert published > empty
    path = path.rename(watch.folder / "final.txt")
    assert (await watch.scan())["renamed"] == 1
    renamed = await corpus()
    assert renamed > published
    path.unlink()
    await watch.scan()
    await watch.let_missing_ones_be_gone()
    assert await watch.scan() == {"deleted": 1}
    assert await corpus() > renamed
