import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from planes.serving import ray_environment, reaper
from planes.serving.loopback_haproxy import loopback_only
from planes.serving.settings import ServingSettings


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> ServingSettings:
    monkeypatch.setenv("DATABASE_URL", "postgresql://x")
    monkeypatch.setenv("SERVING_TOKEN_SECRET", "s" * 32)
    return ServingSettings()


def test_a_folder_too_deep_for_sockets_gets_a_short_name(
    settings: ServingSettings, tmp_path: Path
) -> None:
    deep = tmp_path / ("x" * 60)
    folder = ray_environment.prepare_folder(settings.model_copy(update={"ray_dir": deep}))
    assert len(os.fsencode(folder)) <= 34
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()


def test_only_the_newest_earlier_session_is_kept(settings: ServingSettings, tmp_path: Path) -> None:
    own = settings.model_copy(update={"ray_dir": tmp_path / ("y" * 60)})
    folder = ray_environment.prepare_folder(own)
    sessions = ray_environment.ray_folder(folder)
    for day in (1, 2, 3):
        (sessions / f"session_2026-01-0{day}").mkdir(parents=True)
    ray_environment.prepare_folder(own)
    assert [path.name for path in sessions.iterdir()] == ["session_2026-01-03"]
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_a_folder_that_others_may_change_is_refused(
    settings: ServingSettings, tmp_path: Path, kind: str
) -> None:
    # A link is the dangerous one: what it points to passes every other test.
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with tempfile.TemporaryDirectory(prefix="pp-", dir="/tmp") as short:
        folder = Path(short) / "ray"
        if kind == "link":
            folder.symlink_to(private, target_is_directory=True)
        elif kind == "file":
            folder.touch(0o600)
        else:
            folder.mkdir()
            folder.chmod(0o777)
        with pytest.raises(OSError, match=re.escape(str(folder))):
            ray_environment.prepare_folder(settings.model_copy(update={"ray_dir": folder}))


def test_rays_sockets_fit_below_the_longest_folder(settings: ServingSettings) -> None:
    with tempfile.TemporaryDirectory(prefix="pp-", dir="/tmp") as short:
        longest = Path(short) / ("x" * (33 - len(short)))
        folder = ray_environment.prepare_folder(settings.model_copy(update={"ray_dir": longest}))
        assert folder == longest
        session = "session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
        assert len(os.fsencode(ray_environment.ray_folder(folder) / session)) <= 107


def test_haproxy_listens_on_loopback_only() -> None:
    configuration = (
        "frontend a\n    bind :9101\nfrontend b\n    bind 127.0.0.1:8100\n  bind *:8404\n"
    )
    assert loopback_only(configuration, "127.0.0.1:8100") == (
        "frontend a\n    bind 127.0.0.1:9101\nfrontend b\n    bind 127.0.0.1:8100\n"
        "  bind 127.0.0.1:8404\n"
    )


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:80", ":::80", "10.0.0.5:80", "127.0.0.1:80,0.0.0.0:81", "[::]:80", '":80"']
)
def test_a_listener_that_cannot_be_tied_to_loopback_is_an_error(bind: str) -> None:
    with pytest.raises(ValueError, match="beyond loopback"):
        loopback_only(f"frontend a\n    bind 127.0.0.1:1\n    bind {bind} proto h2\n", "0.0.0.0:1")


def test_the_plane_alone_may_listen_beyond_loopback() -> None:
    configuration = "frontend a\n    bind 127.0.0.1:8100\n  bind 127.0.0.1:81001\n  bind *:8404\n"
    assert loopback_only(configuration, "0.0.0.0:8100") == (
        "frontend a\n    bind 0.0.0.0:8100\n  bind 127.0.0.1:81001\n  bind 127.0.0.1:8404\n"
    )


@pytest.mark.parametrize("bind", ["localhost:80", "/run/x.sock mode 600", "unix@/run/x.sock"])
def test_loopback_and_unix_sockets_are_left_as_they_are(bind: str) -> None:
    configuration = f"frontend a\n    bind {bind}\n"
    assert loopback_only(configuration, "127.0.0.1:8100") == configuration


def wait_for_end(process_id: int) -> bool:
    """Wait at most ten seconds for a process that is not our child."""
    try:
        descriptor = os.pidfd_open(process_id)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10)[0])
    finally:
        os.close(descriptor)


def test_whatever_a_killed_process_started_is_ended() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    program = (
        "import os, subprocess, sys\n"
        "from planes.serving import reaper\n"
        "os.environ['RUN_OF_TEST'] = str(os.getpid())\n"
        "reaper.lead_process_group()\n"
        "remains = reaper.start('RUN_OF_TEST')\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], start_new_session=True,\n"
        "                         stdin=subprocess.PIPE)\n"
        "print(child.pid, remains.pid, flush=True)\n"
        "input()\n"
    )
    first = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stdin is not None
    remains = int(first.stdout.readline().split()[1])
    mark = f"RUN_OF_TEST={first.pid}"
    first.kill()
    first.communicate()
    assert wait_for_end(remains)
    assert reaper.members(first.pid, mark) == []
