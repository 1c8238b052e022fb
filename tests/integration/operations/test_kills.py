"""kill -9 during a backup or a restore leaves nothing that is taken for whole."""

import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from planes.shared.errors import InvalidInput
from planes.shared.stores.postgres import SCHEMA_REVISION, Database, RestoreUnfinished
from services.operations.backup import back_up
from services.operations.backup_folder import Backup, backups_in
from services.operations.restore import Restore
from tests.integration.operations.world import Place, Tenant

pytestmark = pytest.mark.integration


def _nothing(stage: str) -> None:
    del stage


def _kill_at(stage: str, act: str, place: Place, folder: Path) -> None:
    child = "tests.integration.operations.child"
    with subprocess.Popen(
        [sys.executable, "-m", child, act, place.url, str(place.folder), str(folder), stage],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.kill()


async def test_a_killed_backup_is_none_and_holds_removal_for_two_minutes_at_most(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    del tenants
    folder = tmp_path / "backups"
    _kill_at("messages", "backup", place, folder)
    assert backups_in(folder) == []
    (partial,) = folder.glob(".*.partial")
    with pytest.raises(InvalidInput, match="no whole backup"):
        Backup(partial)
    connection = await asyncpg.connect(place.url)
    assert await connection.fetchval("SELECT until - now() <= interval '2 min' FROM removal_holds")
    await connection.close()
    async with place.open() as stores:
        await back_up(stores, folder, report=_nothing)
    assert len(backups_in(folder)) == 1
    assert not partial.exists()


async def test_a_killed_restore_keeps_services_out_until_it_was_repeated(
    place: Place, tenants: list[Tenant], other: Place, tmp_path: Path
) -> None:
    del tenants
    async with place.open() as stores:
        backup = await back_up(stores, tmp_path / "backups", report=_nothing)
    _kill_at("messages", "restore", other, backup.folder)
    database = Database(other.url, service="test")
    await database.open()
    with pytest.raises(RestoreUnfinished):
        await database.check_schema(SCHEMA_REVISION)
    async with other.open(are_new=True) as stores:
        await Restore(backup, stores, report=_nothing).run(lambda: None)
    await database.check_schema(SCHEMA_REVISION)
    await database.close()
