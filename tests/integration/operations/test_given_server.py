"""`polyplane restore` into a given server: it looks before it changes anything."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from services.embedded.postgres import Postgres
from services.embedded.schema import owner_connection
from services.operations.backup import back_up
from services.operations.backup_folder import Backup, backups_in
from tests.integration.operations.world import Place, Tenant
from tests.servers.given import given_postgres

pytestmark = pytest.mark.integration
_COMMAND_S = 300


@pytest.fixture(scope="module")
def given(server_folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL of others, on which nothing was made yet."""
    with given_postgres(server_folder, "restored") as postgres:
        yield postgres


async def test_a_platform_is_restored_into_a_given_server_once(
    place: Place, tenants: list[Tenant], given: Postgres, tmp_path: Path
) -> None:
    del tenants
    async with place.open() as stores:
        backup = await back_up(stores, tmp_path / "backups", report=lambda _: None)
    folder, url = str(backup.folder), given.url("postgres")

    def run(*arguments: str, home: str = "home", url: str = url) -> tuple[int, str]:
        return _polyplane(
            *arguments,
            DATABASE_OWNER_URL=url,
            OBJECTS_DIR=str(tmp_path / "objects"),
            POLYPLANE_HOME=str(tmp_path / home),
        )

    newer = _at_another_schema(backup, tmp_path / "newer")
    for answer, words in (
        (run("restore", str(newer)), "which this version does not know"),
        (run("restore", folder, url="postgresql://a@127.0.0.1:1/"), "does not answer"),
    ):
        assert (answer[0], words in answer[1], "Traceback" in answer[1]) == (1, True, False), answer
    assert _logins(given) == {}
    code, said = run("restore", folder)
    assert code == 0, said
    assert (tmp_path / "home" / "servers.json").stat().st_mode & 0o777 == 0o600
    before = _logins(given)
    assert len(before) == 4
    code, said = run("backup", str(tmp_path / "again"))
    assert code == 0, said
    (again,) = backups_in(tmp_path / "again")
    assert Backup(again).manifest.tenants == backup.manifest.tenants
    for home, words in (("other", "another platform has it"), ("home", "not empty")):
        code, said = run("restore", folder, home=home)
        assert (code, words in said, "Traceback" in said) == (1, True, False), said
    assert _logins(given) == before


def _polyplane(*arguments: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env={**os.environ, "NO_COLOR": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_S,
        check=False,
    )
    return done.returncode, done.stdout


def _logins(given: Postgres) -> dict[str, str]:
    """Return the password verifiers of the platform's roles."""
    query = text(
        "SELECT rolname, rolpassword FROM pg_authid "
        "WHERE rolname LIKE 'polyplane%' AND rolname <> 'polyplane_owner' AND rolcanlogin"
    )
    with owner_connection(given.url("postgres")) as connection:
        return {row.rolname: row.rolpassword for row in connection.execute(query)}


def _at_another_schema(backup: Backup, folder: Path) -> Path:
    """Copy a backup that says it is of a schema to come."""
    shutil.copytree(backup.folder, folder)
    (folder / "manifest.json").unlink()
    backup.manifest.model_copy(update={"revision": "9999"}).write(folder)
    return folder
