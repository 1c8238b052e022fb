"""`polyplane backup` as a command: once and on a schedule, on a given server."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from services.embedded.postgres import PLATFORM_DATABASE, Postgres
from services.embedded.schema import owner_connection
from services.operations.backup_folder import Backup, backups_in
from tests.integration.operations.world import Place, Tenant, settle

pytestmark = pytest.mark.integration
_COMMAND_S = 300


@pytest.fixture
def given(postgres: Postgres, tmp_path: Path) -> Iterator[Place]:
    """The migrated stores of a platform in server mode, which does not run."""
    with owner_connection(postgres.url("postgres")) as connection:
        # other tests may have made one on this server
        connection.execute(text(f"DROP DATABASE IF EXISTS {PLATFORM_DATABASE} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {PLATFORM_DATABASE} TEMPLATE migrated"))
    yield Place(postgres.url(PLATFORM_DATABASE), tmp_path / "objects")
    with owner_connection(postgres.url("postgres")) as connection:
        connection.execute(text(f"DROP DATABASE {PLATFORM_DATABASE} WITH (FORCE)"))


@pytest.fixture
async def tenant(given: Place) -> Tenant:
    return await settle(given, "acme")


Command = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def command(given: Place, postgres: Postgres, tmp_path: Path) -> Command:
    """Return a started `polyplane backup` on those stores."""

    def start(*arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "DATABASE_OWNER_URL": postgres.url("postgres"),
            "OBJECTS_DIR": str(given.folder),
            "POLYPLANE_HOME": str(tmp_path / "home"),
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **variables,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "services.cli", "backup", *map(str, arguments)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_hear_ctrl_c,
        )

    return start


def _hear_ctrl_c() -> None:
    """Undo what a shell's background job passes on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _run(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=_COMMAND_S)
    return process.returncode, said


@contextmanager
def _going_on(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _said(process: subprocess.Popen[str], words: str) -> str:
    """Return what it says until it says these words."""
    assert process.stdout is not None
    lines = []
    while not lines or words not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], lines
    return "".join(lines)


def _age(backup: Path, age: timedelta) -> Path:
    """Let a backup be so old, by its name."""
    time = datetime.now(UTC) - age
    return backup.rename(backup.with_name(f"{time:%Y%m%dT%H%M%S}000Z"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_schedule_makes_a_backup_when_the_newest_is_old_enough_and_waits(
    command: Command, tenant: Tenant, tmp_path: Path, number: signal.Signals
) -> None:
    del tenant
    folder = tmp_path / "backups"
    schedule = (folder, "--every", "1h", "--keep", "2")
    with _going_on(command(*schedule)) as process:
        _said(process, "next backup is due")
        (first,) = backups_in(folder)
        process.send_signal(number)
        assert process.wait(_COMMAND_S) == 128 + number
    with _going_on(command(*schedule)) as process:  # as a supervisor would
        _said(process, "next backup is due")
        process.send_signal(number)
        process.wait(_COMMAND_S)
    assert backups_in(folder) == [first]
    first = _age(first, timedelta(minutes=61))
    with _going_on(command(*schedule)) as process:
        _said(process, "next backup is due")
    assert len(backups_in(folder)) == 2
    assert first in backups_in(folder)


def test_a_schedule_goes_on_after_damaged_backups_and_failures(
    command: Command, tenant: Tenant, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    assert _run(command(folder))[0] == 0
    (old,) = backups_in(folder)
    old = _age(old, timedelta(hours=3))
    damaged = old.with_name(old.name.replace("000Z", "001Z"))
    shutil.copytree(old, damaged)
    (damaged / "manifest.json").write_text("{}", "utf-8")
    (old / "files" / f"{tenant.tenant_id}.jsonl.gz").write_bytes(b"\x1f\x8b no gzip")
    with _going_on(command(folder, "--every", "1h")) as process:
        said = _said(process, "next backup is due")
    assert str(damaged / "manifest.json") in said
    assert len(backups_in(folder)) == 3
    wrong = {"CQL_HOSTS": "127.0.0.1", "CQL_TTL_DAYS": "nonsense"}
    with _going_on(command(tmp_path / "others", "--every", "1h", **wrong)) as process:
        assert "CQL_TTL_DAYS" in _said(process, "no backup")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)


def test_a_backup_is_linked_to_another_and_old_ones_are_removed(
    command: Command, tenant: Tenant, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert _run(command(one))[0] == 0
    (earlier,) = backups_in(one)
    with _going_on(command(two, "--since", earlier, "--every", "1h")) as process:
        _said(process, "next backup is due")
    (linked,) = backups_in(two)
    originals = [next(each.glob("objects/**/original")) for each in (earlier, linked)]
    assert originals[0].samefile(originals[1])
    code, said = _run(command(two, "--keep", "1"))
    assert (code, f"Removed {linked}" in said) == (0, True)
    assert len(backups_in(two)) == 1
    assert Backup(backups_in(two)[0]).manifest.tenants[tenant.tenant_id].messages == 5


def test_nobody_else_reads_a_backup(command: Command, tenant: Tenant, tmp_path: Path) -> None:
    del tenant
    folder = tmp_path / "backups"
    assert _run(command(folder))[0] == 0
    assert [each.stat().st_mode & 0o077 for each in (folder, *backups_in(folder))] == [0, 0]
