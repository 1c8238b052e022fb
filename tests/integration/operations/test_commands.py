"""`polyplane restore` starts the database of an empty home, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.embedded.home import Home
from services.embedded.processes import leftovers
from services.operations.backup import back_up
from tests.integration.operations.world import Place, Tenant

pytestmark = pytest.mark.integration
_COMMAND_S = 300


def _polyplane(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "DATABASE_OWNER_URL"}
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env={**kept, "POLYPLANE_HOME": str(home), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        check=False,
    )


async def test_a_backup_is_restored_into_an_empty_home_once(
    place: Place, tenants: list[Tenant], tmp_path: Path
) -> None:
    async with place.open() as stores:
        backup = await back_up(stores, tmp_path / "backups", report=lambda _: None)
    home = tmp_path / "home"
    try:
        done = _polyplane(home, "restore", str(backup.folder))
        assert done.returncode == 0, done.stderr
        assert "compared with the backup" in done.stdout
        for tenant in tenants:
            assert (home / "objects" / str(tenant.tenant_id)).is_dir()
        assert leftovers(Home(home)) == []
        again = _polyplane(home, "restore", str(backup.folder))
        assert (again.returncode, "not empty" in again.stderr) == (1, True)
        (backup.folder / "database" / "users.copy.gz").write_bytes(b"")
        damaged = _polyplane(home, "restore", "--check", str(backup.folder))
        assert (damaged.returncode, "damaged" in damaged.stderr) == (1, True)
    finally:
        _polyplane(home, "reset", "--yes")


def test_where_nothing_runs_nothing_is_backed_up(tmp_path: Path) -> None:
    done = _polyplane(tmp_path / "home", "backup", str(tmp_path / "backups"))
    assert done.returncode == 3
    assert not (tmp_path / "backups").exists()
