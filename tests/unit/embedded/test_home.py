"""The folder of one platform, its secrets, logs and state."""

import asyncio
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from services.embedded.files import write_atomically
from services.embedded.home import Home, locate
from services.embedded.logs import RotatingLog, tail
from services.embedded.marks import HomeRefused
from services.embedded.processes import leftovers
from services.embedded.state import (
    AlreadyRunning,
    PlatformState,
    read_state,
    supervisor_lock,
    supervisor_pid,
    write_state,
)


def test_secrets_are_made_once_and_are_private(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = home.secrets()
    assert home.secrets() == first
    assert len(set(first.values())) == len(first)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


def test_a_new_secret_leaves_the_old_ones_alone(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(json.dumps({"redis": "kept"}), "utf-8")
    assert Home(tmp_path).secrets()["redis"] == "kept"


def test_the_named_home_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPLANE_HOME", str(tmp_path / "named"))
    assert locate().root == tmp_path / "named"


def test_the_project_around_the_present_folder_has_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLYPLANE_HOME", raising=False)
    (tmp_path / "pyproject.toml").touch()
    inner = tmp_path / "docs" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert locate().root == tmp_path / ".polyplane"


def test_two_homes_are_two_instances(tmp_path: Path) -> None:
    assert Home(tmp_path / "a").instance != Home(tmp_path / "b").instance


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text("utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_full_log_begins_anew_and_the_oldest_goes(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "part.log", max_bytes=10, kept=3)
    for number in range(6):
        log.write(f"line {number}...\n".encode())
    log.write(b"last\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["part.log", "part.log.1", "part.log.2"]
    assert tail(tmp_path / "part.log", 5) == ["last"]
    assert tail(tmp_path / "absent.log", 5) == []


def test_a_state_without_its_supervisor_is_not_running(tmp_path: Path) -> None:
    home = Home(tmp_path)
    write_state(home, PlatformState(pid=1, started_at=0, phase="running"))
    assert supervisor_pid(home) is None
    assert read_state(home) is None


def test_only_one_supervisor_holds_a_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from services.embedded.state import supervisor_lock\n"
        "with supervisor_lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home.lock_file)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert supervisor_pid(home) == holder.pid
        with pytest.raises(AlreadyRunning), supervisor_lock(home.lock_file):
            pass
        holder.kill()
    assert supervisor_pid(home) is None


@pytest.fixture
def shared_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where root keeps the data of all platforms."""
    if os.geteuid() != 0:
        pytest.skip("only root keeps data outside the home")
    monkeypatch.setattr("services.embedded.home._ROOT_DATA", tmp_path / "shared")
    return tmp_path / "shared"


def _home_with_data(root: Path) -> Home:
    home = Home(root)
    home.create()
    home.link_postgres()
    home.postgres.mkdir()
    (home.postgres / "row").write_text(str(root), "utf-8")
    return home


def test_a_moved_home_keeps_its_data_and_its_successor_gets_its_own(
    tmp_path: Path, shared_data: Path
) -> None:
    _home_with_data(tmp_path / "project")
    moved = Home((tmp_path / "project").rename(tmp_path / "old"))
    new = _home_with_data(tmp_path / "project")
    moved.create()
    moved.link_postgres()
    assert moved.instance != new.instance
    assert (moved.postgres / "row").exists()
    assert moved.delete()
    assert (new.postgres / "row").exists()
    assert new.delete()
    assert list(shared_data.iterdir()) == []


@pytest.mark.usefixtures("shared_data")
def test_a_copied_home_does_not_take_the_originals_data(tmp_path: Path) -> None:
    original = _home_with_data(tmp_path / "project")
    copy = Home(shutil.copytree(original.root, tmp_path / "copy", symlinks=True))
    for action in (copy.create, copy.delete, lambda: leftovers(copy)):
        with pytest.raises(HomeRefused, match="belongs to") as refusal:
            action()
        assert f"POLYPLANE_HOME={original.root}" in str(refusal.value)
        assert "delete" not in str(refusal.value)
    assert (original.postgres / "row").exists()


@pytest.mark.usefixtures("shared_data")
def test_a_link_to_the_data_of_another_platform_is_refused(tmp_path: Path) -> None:
    one, other = _home_with_data(tmp_path / "one"), _home_with_data(tmp_path / "other")
    (one.root / "postgres").unlink()
    (one.root / "postgres").symlink_to(other.postgres)
    with pytest.raises(HomeRefused, match="belongs to"):
        one.delete()
    assert (other.postgres / "row").exists()
    assert one.root.exists()


async def test_a_log_that_cannot_be_written_does_not_stop_the_reading(tmp_path: Path) -> None:
    stream = asyncio.StreamReader()
    stream.feed_data(b"line\n")
    stream.feed_eof()
    await RotatingLog(tmp_path / "absent" / "part.log").copy_from(stream)
    assert stream.at_eof()
