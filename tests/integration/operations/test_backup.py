"""A backup holds one moment of all stores, and comes back to the last byte."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from planes.shared.domain import original_key, text_key
from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.objects import FolderObjects, FolderWriter
from planes.shared.stores.postgres import SCHEMA_REVISION, Database, RestoreUnfinished
from services.operations.backup import back_up
from services.operations.backup_folder import Backup, backups_in, keep_newest
from services.operations.restore import Restore, check
from tests.integration.operations.world import (
    Place,
    Tenant,
    chunks_of,
    message,
    settled,
    vectors_of,
)

pytestmark = pytest.mark.integration


def _nothing(stage: str) -> None:
    del stage


async def _backed_up(place: Place, folder: Path, **options: Backup) -> Backup:
    async with place.open() as stores:
        return await back_up(stores, folder, report=_nothing, **options)


def _whole_and_partial(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


async def _restored(backup: Backup, place: Place, report: Callable[[str], None] = _nothing) -> None:
    await check(backup, _nothing)
    async with place.open(are_new=True) as stores:
        await Restore(backup, stores, report=report).run(lambda: None)


async def _state(backup: Backup) -> dict[str, object]:
    """What a backup holds, but for what a restore changes."""
    changed = {"database/tenants.copy.gz", "database/sessions.copy.gz"}
    changed |= {"database/generations.copy.gz"}
    lines = {}
    for name in backup.manifest.files.keys() - changed:
        with backup.file(name) as file:
            rows = sorted(file)
        if name.startswith("files/"):  # marks are their store's
            rows = [{**orjson.loads(row), "mark": ""} for row in rows]
        lines[name] = rows
    return {
        "lines": lines,
        "tenants": backup.manifest.tenants,
        "tables": backup.manifest.tables,
        "sequences": backup.manifest.sequences,
    }


async def _messages(place: Place, tenant: Tenant) -> list[object]:
    async with place.open() as stores:
        log = stores.chat_log
        ids = tenant.tenant_id, tenant.conversation_id
        page = await log.page(*ids, after_seq=0, limit=100)
        others = [await log.find(*ids, seq=m.seq, message_id=m.id) for m in tenant.messages]
        return [*page, *others]


async def test_what_is_restored_is_what_was_backed_up(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path
) -> None:
    backup = await _backed_up(place, tmp_path / "backups")
    for tenant in tenants:
        note = backup.manifest.tenants[tenant.tenant_id]
        counts = (note.versions, note.chunks, note.objects, note.messages, note.ledger_rows)
        assert counts == (1, 7, 2, 5, 3)
    await _restored(backup, other)
    again = await _backed_up(other, tmp_path / "again")
    assert await _state(again) == await _state(backup)
    for tenant in tenants:
        assert await _messages(other, tenant) == await _messages(place, tenant)
        ids = tenant.tenant_id, tenant.document_id, tenant.version_id
        async with other.open() as there, place.open() as here:
            for key in (original_key(*ids), text_key(*ids)):
                assert await there.objects.get(key) == await here.objects.get(key)


async def test_after_a_restore_sessions_have_ended_and_caches_are_not_found(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path
) -> None:
    del tenants
    await _restored(await _backed_up(place, tmp_path), other)
    connection = await asyncpg.connect(other.url)
    assert await connection.fetchval("SELECT bool_and(ended_at IS NOT NULL) FROM sessions")
    assert await connection.fetchval("SELECT min(corpus_version) FROM tenants") >= 1_000_000
    await connection.close()


async def test_what_happens_after_the_snapshot_stays_out(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path
) -> None:
    acme = tenants[0]
    waiting = message(acme, 5, "a question whose answer is under way")
    connection = await asyncpg.connect(place.url)
    await connection.execute(
        "UPDATE conversations SET message_count = 5 WHERE tenant_id = $1", acme.tenant_id
    )
    await connection.execute(
        "INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload) "
        "VALUES ($1, $2, $3, 5, '{\"role\": \"user\"}')",
        waiting.id, acme.tenant_id, acme.conversation_id,
    )  # fmt: skip
    database = Database(place.url, service="test")
    await database.open()
    removals: list[int] = []

    async def go_on() -> None:
        async with place.open() as stores:
            # its question is taken back, another is asked; the last answer is written once more
            late = [message(acme, 5, "later"), message(acme, 4, "later"), message(acme, 6, "later")]
            for each in late[1:]:
                await settled(connection, acme, each)
            await stores.chat_log.append(late)
        await connection.execute("UPDATE conversations SET message_count = 6, deleted_at = now()")
        await connection.execute("UPDATE documents SET deleted_at = now()")
        await connection.execute("UPDATE document_versions SET visibility = 'hidden'")
        await connection.execute("UPDATE tenants SET deleted_at = now()")
        await connection.execute(
            "INSERT INTO deletions (id, tenant_id, document_id, requested_by) SELECT "
            "gen_random_uuid(), tenant_id, id, owner_id FROM documents"
        )
        await connection.execute(
            "INSERT INTO tenant_deletions (id, tenant_id, requested_by, receipt_hash, lease_until) "
            "SELECT gen_random_uuid(), tenant_id, user_id, tenant_id::text::bytea, now() "
            "FROM memberships"
        )
        await connection.execute("DELETE FROM outbox")
        removals.append(await _claimed(connection))

    async with place.open() as stores:
        backup = await _with_interlude(stores, tmp_path, go_on)
    assert removals == [0]
    assert await _claimed(connection) > 0
    await connection.close()
    await database.close()
    await _restored(backup, other)
    assert await _messages(other, acme) == [*acme.messages[:3], acme.messages[4], *acme.messages]
    connection = await asyncpg.connect(other.url)
    assert await connection.fetchval("SELECT count(*) FROM ledger") == 6
    assert await connection.fetchval("SELECT id FROM outbox") == waiting.id
    await connection.close()


async def _claimed(connection: asyncpg.Connection) -> int:
    """Try to begin each kind of removal, and return how many there are to do."""
    found = 0
    for query in (
        "SELECT * FROM claim_deletions('w', 9, '1 s')",
        "SELECT * FROM claim_stale_versions('w', 9, '1 s')",
        "SELECT * FROM purgeable_conversations(9)",
        "SELECT * FROM claim_tenant_deletion('1 s')",
    ):
        found += len(await connection.fetch(query))
    return found


async def _with_interlude(stores: object, folder: Path, interlude: Callable) -> Backup:
    """Back up, and let something happen once the snapshot is taken."""
    objects = _Interlude(stores.objects, interlude)
    return await back_up(replace(stores, objects=objects), folder, report=_nothing)


class _Interlude:
    """An object store, before whose first list something happens."""

    def __init__(self, objects: object, interlude: Callable) -> None:
        self._objects, self._interlude = objects, interlude

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    async def keys(self, prefix: str):
        if self._interlude is not None:
            interlude, self._interlude = self._interlude, None
            await interlude()
        async for page in self._objects.keys(prefix):
            yield page


async def test_a_generation_is_not_dropped_while_a_backup_reads_it(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    del tenants
    connection = await asyncpg.connect(place.url)

    async def drop() -> None:
        with pytest.raises(asyncpg.RaiseError, match="backup is being made"):
            await connection.execute("UPDATE generations SET state = 'dropped'")

    async with place.open() as stores:
        await _with_interlude(stores, tmp_path, drop)
    await connection.close()


async def test_unchanged_files_are_linked_to_those_of_the_backup_before(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path
) -> None:
    acme = tenants[0]
    first = await _backed_up(place, tmp_path / "backups")
    ids = acme.tenant_id, acme.document_id, acme.version_id
    async with place.open() as stores:
        await stores.objects.put(text_key(*ids), b"parsed again")
    second = await _backed_up(place, tmp_path / "backups", earlier=first)

    def inode(backup: Backup, key: str) -> int:
        return (backup.folder / "objects" / key).stat().st_ino

    assert inode(first, original_key(*ids)) == inode(second, original_key(*ids))
    assert inode(first, text_key(*ids)) != inode(second, text_key(*ids))
    assert keep_newest(tmp_path / "backups", 1) == [first.folder]
    assert backups_in(tmp_path / "backups") == [second.folder]
    await _restored(second, other)
    async with other.open() as stores:
        assert await stores.objects.get(text_key(*ids)) == b"parsed again"


async def _lose_chunk(place: Place, tenant: Tenant) -> None:
    async with place.open() as stores:
        (chunk, *_) = await stores.chunks.chunks_at(
            tenant.tenant_id, [(tenant.version_id, 3)], generation=1
        )
        await stores.chunks.remove_chunks(tenant.tenant_id, [chunk.id], generation=1)


async def _lose_file(place: Place, tenant: Tenant) -> None:
    async with place.open() as stores:
        key = text_key(tenant.tenant_id, tenant.document_id, tenant.version_id)
        await stores.objects.remove(key)


async def _damage_file(place: Place, tenant: Tenant) -> None:
    async with place.open() as stores:
        key = original_key(tenant.tenant_id, tenant.document_id, tenant.version_id)
        await stores.objects.put(key, b"something else")


async def _lose_question(place: Place, tenant: Tenant) -> None:
    await _lose_message(place, tenant.messages[2].id)


async def _lose_replaced_answer(place: Place, tenant: Tenant) -> None:
    await _lose_message(place, tenant.messages[3].id)


async def _lose_message(place: Place, message_id: UUID) -> None:
    connection = await asyncpg.connect(place.url)
    await connection.execute("DELETE FROM chat_messages WHERE id = $1", message_id)
    await connection.close()


@pytest.mark.parametrize(
    "harm", [_lose_chunk, _lose_file, _damage_file, _lose_question, _lose_replaced_answer]
)
async def test_a_store_that_lacks_what_the_database_knows_is_not_backed_up_as_whole(
    place: Place, tenants: list[Tenant], tmp_path: Path, harm: Callable
) -> None:
    await harm(place, tenants[1])
    with pytest.raises(Conflict, match=str(tenants[1].tenant_id)):
        await _backed_up(place, tmp_path / "backups")
    assert _whole_and_partial(tmp_path / "backups") == []


async def test_all_that_lacks_is_told_at_once(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    acme, globex = tenants
    await _lose_chunk(place, acme)
    await _damage_file(place, acme)
    await _lose_file(place, globex)
    await _lose_question(place, globex)
    with pytest.raises(Conflict) as refused:
        await _backed_up(place, tmp_path / "backups")
    told = refused.value.detail
    assert told.count(f"tenant {acme.tenant_id}, document {acme.document_id}: ") == 2
    assert f"tenant {globex.tenant_id}, document {globex.document_id}: " in told
    assert f"{globex.conversation_id}: the chat log lacks 1 of 4 messages: 3" in told


async def test_a_message_that_waits_in_the_outbox_does_not_lack(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    acme = tenants[0]
    connection = await asyncpg.connect(place.url)
    for lost in (acme.messages[2], acme.messages[3]):
        await _lose_message(place, lost.id)
        await connection.execute(
            "INSERT INTO outbox (id, tenant_id, conversation_id, seq, payload) "
            "VALUES ($1, $2, $3, $4, $5::text::jsonb)",
            lost.id, acme.tenant_id, acme.conversation_id, lost.seq, f'{{"role": "{lost.role}"}}',
        )  # fmt: skip
    await connection.close()
    backup = await _backed_up(place, tmp_path)
    assert backup.manifest.tenants[acme.tenant_id].messages == 3


class _Forgetful(FolderObjects):
    """An object store that keeps something else than it was given."""

    def writer(self, key: str) -> FolderWriter:
        return _ForgetfulWriter(self._path(key))


class _ForgetfulWriter(FolderWriter):
    async def __aexit__(self, *ended: object) -> None:
        await super().__aexit__(*ended)
        self._path.write_bytes(b"x" * self.size_bytes)


async def test_files_are_read_back_after_a_restore(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path
) -> None:
    del tenants
    backup = await _backed_up(place, tmp_path)
    with pytest.raises(Conflict, match="holds another file"):
        await _restored(backup, replace(other, objects=_Forgetful(other.folder)))


async def test_a_backup_that_is_being_copied_there_is_left_alone(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    del tenants
    first = await _backed_up(place, tmp_path / "backups")
    copied = first.folder.with_name("20250101T000000000Z")
    shutil.copytree(first.folder, copied)
    (copied / "manifest.json").unlink()  # it comes last, or in any order
    left = first.folder.with_name(".20250102T000000000Z.partial")
    left.mkdir()
    second = await _backed_up(place, tmp_path / "backups")
    assert copied.is_dir()
    assert not left.exists()
    assert keep_newest(tmp_path / "backups", 1) == [first.folder]
    assert copied.is_dir()
    assert _whole_and_partial(tmp_path / "backups") == sorted([copied.name, second.folder.name])


async def test_two_backups_at_once_do_not_disturb_each_other(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    del tenants

    async def second() -> None:
        with pytest.raises(Conflict, match="Another backup is being written"):
            await _backed_up(place, tmp_path)
        await _backed_up(place, tmp_path / "elsewhere")

    async with place.open() as stores:
        first = await _with_interlude(stores, tmp_path, second)
    assert backups_in(tmp_path) == [first.folder]
    assert len(backups_in(tmp_path / "elsewhere")) == 1


async def test_a_damaged_backup_is_refused(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    del tenants
    whole = await _backed_up(place, tmp_path)
    parts = "database/ledger*", "chunks/*", "messages/*", "files/*", "objects/**/original"
    for pattern in (*parts, "manifest.json"):
        for harm in (_change, _cut_off, Path.unlink):
            copy = tmp_path / "copy"
            shutil.copytree(whole.folder, copy)
            harm(next(path for path in copy.glob(pattern) if path.is_file()))
            with pytest.raises(InvalidInput):
                await check(Backup(copy), _nothing)
            shutil.rmtree(copy)
    await check(whole, _nothing)


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


async def test_a_restore_wants_empty_stores(
    place: Place,
    tenants: list[Tenant],
    other: Place,
    new_place: Callable[..., Place],
    tmp_path: Path,
) -> None:
    backup = await _backed_up(place, tmp_path)
    with pytest.raises(Conflict, match="database is not empty"):
        await _restored(backup, place)
    async with other.open() as stores:
        await stores.objects.put("somebody/else", b"x")
    with pytest.raises(Conflict, match="object store is not empty"):
        await _restored(backup, other)
    chatty = new_place()
    async with chatty.open() as stores:
        await stores.chat_log.append(tenants[0].messages)
    with pytest.raises(Conflict, match="not empty"):
        await _restored(backup, chatty)
    third = new_place()
    async with third.open() as stores:
        chunks = chunks_of(tenants[0], "Somebody\nelse's")
        await stores.chunks.add_chunks(chunks, vectors_of(tenants[0])[:2], generation=1)
    with pytest.raises(Conflict, match="index is not empty"):
        await _restored(backup, third)
    assert await _messages(place, tenants[0])  # nothing was touched


async def test_a_database_in_use_is_not_restored_into(
    place: Place,
    tenants: list[Tenant],
    database_urls: dict[str, str],
    other: Place,
    tmp_path: Path,
) -> None:
    del tenants
    backup = await _backed_up(place, tmp_path)
    gateway = await asyncpg.connect(database_urls["gateway"])
    with pytest.raises(Conflict, match="polyplane_gateway is connected"):
        await _restored(backup, replace(other, url=database_urls["admin"]))
    await gateway.close()


class _FullDisk(Exception):
    pass


@pytest.mark.parametrize("stage", ["database", "files", "chunks", "messages"])
async def test_services_refuse_half_a_restore_and_it_can_be_repeated(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path, stage: str
) -> None:
    backup = await _backed_up(place, tmp_path / "backups")

    def fail(said: str) -> None:
        if said == f"{stage} of tenant {tenants[1].tenant_id}" or said == stage:
            raise _FullDisk

    with pytest.raises(_FullDisk):
        await _restored(backup, other, fail)
    database = Database(other.url, service="test")
    await database.open()
    with pytest.raises(RestoreUnfinished, match="polyplane restore"):
        await database.check_schema(SCHEMA_REVISION)
    second = await _backed_up(place, tmp_path / "backups")
    with pytest.raises(Conflict, match=str(backup.manifest.id)):
        await _restored(second, other)
    await _restored(backup, other)
    await database.check_schema(SCHEMA_REVISION)
    await database.close()
    again = await _backed_up(other, tmp_path / "again")
    assert await _state(again) == await _state(backup)
