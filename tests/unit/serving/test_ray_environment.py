import os
import select
import subprocess
import sys
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
    for day in (1, 2, 3):
        (folder / f"session_2026-01-0{day}").mkdir()
    ray_environment.prepare_folder(own)
    assert [path.name for path in folder.iterdir()] == ["session_2026-01-03"]
    (folder / "session_2026-01-03").rmdir()
    folder.rmdir()


def test_haproxy_listens_on_loopback_only() -> None:
    configuration = (
        "frontend a\n    bind :9101\nfrontend b\n    bind 127.0.0.1:8100\n  bind *:8404\n"
    )
    assert loopback_only(configuration) == (
        "frontend a\n    bind 127.0.0.1:9101\nfrontend b\n    bind 127.0.0.1:8100\n"
        "  bind 127.0.0.1:8404\n"
    )


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
