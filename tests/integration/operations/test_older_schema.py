"""A backup of an older schema is restored, and migrated in the same command."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import text

from planes.shared.stores import migrations
from planes.shared.stores.postgres import SCHEMA_REVISION, Database, RestoreUnfinished
from services.embedded.postgres import Postgres
from services.embedded.schema import bootstrap, owner_connection
from services.operations.backup import back_up
from services.operations.backup_folder import Backup
from services.operations.restore import Restore, check
from tests.integration.operations.world import Place, Tenant, settle

pytestmark = pytest.mark.integration
_OLDER = "0007"
_FOR_BACKUPS = """
CREATE TABLE removal_holds (id uuid PRIMARY KEY, until timestamptz NOT NULL);
CREATE TABLE chat_log_place (live text, also text, leaving text);
"""  # what that schema lacks for being backed up, and the newest function below; no backup has them
_TOGETHER = Path(migrations.__file__).parent / "versions" / "0010_together.sql"


def _nothing(stage: str) -> None:
    del stage


@pytest.fixture
def older(postgres: Postgres, tmp_path: Path) -> Iterator[Callable[[], Place]]:
    """Return new stores, their database at a schema before this version's."""
    names: list[str] = []

    def make() -> Place:
        names.append(f"test_{uuid4().hex}")
        with owner_connection(postgres.url("postgres")) as connection:
            connection.execute(text(f"CREATE DATABASE {names[-1]}"))
        migrations.upgrade(postgres.url(names[-1]), revision=_OLDER)
        return Place(postgres.url(names[-1]), tmp_path / names[-1])

    yield make
    with owner_connection(postgres.url("postgres")) as connection:
        for name in names:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def source(older: Callable[[], Place]) -> tuple[Place, Tenant]:
    place = older()
    connection = await asyncpg.connect(place.url)
    await connection.execute(_FOR_BACKUPS)
    functions = _TOGETHER.read_text("utf-8")
    start = functions.index("CREATE FUNCTION logged_messages")
    await connection.execute(functions[start : functions.index("GRANT SELECT", start)])
    await connection.close()
    return place, await settle(place, "acme", are_new=True)


class _Broken(Exception):
    pass


@pytest.mark.parametrize("where", ["database", "upgrade", "files"])
async def test_what_was_broken_off_is_repeated_to_the_same_end(
    source: tuple[Place, Tenant], older: Callable[[], Place], tmp_path: Path, where: str
) -> None:
    place, tenant = source
    async with place.open(are_new=True) as stores:
        backup = await back_up(stores, tmp_path / "backups", report=_nothing)
    assert backup.manifest.revision == _OLDER
    target = older()
    with pytest.raises(_Broken):
        await _restored(backup, target, where)
    with pytest.raises(RestoreUnfinished):  # nobody migrates what is not loaded
        bootstrap(lambda _: target.url, {})
    await _restored(backup, target, None)
    database = Database(target.url, service="test")
    await database.open()
    await database.check_schema(SCHEMA_REVISION)
    await database.close()
    connection = await asyncpg.connect(target.url)
    assert await connection.fetchval("SELECT live FROM chat_log_place") == "postgres"
    assert await connection.fetchval("SELECT store FROM generations WHERE state = 'live'")
    assert await connection.fetchval("SELECT count(*) FROM ledger") == 3
    await connection.close()
    async with target.open() as stores:
        again = await back_up(stores, tmp_path / "again", report=_nothing)
    assert again.manifest.tenants == backup.manifest.tenants
    assert again.manifest.tenants[tenant.tenant_id].messages == 5


async def _restored(backup: Backup, target: Place, breaks: str | None) -> None:
    """Restore as the command does, but for what breaks on the way."""

    def report(stage: str) -> None:
        if breaks is not None and stage.startswith(breaks):
            raise _Broken

    def upgrade() -> None:
        report("upgrade")
        migrations.upgrade(target.url)

    await check(backup, _nothing)
    migrations.upgrade(target.url, revision=backup.manifest.revision)
    async with target.open(are_new=True) as stores:
        await Restore(backup, stores, report=report).run(upgrade)
