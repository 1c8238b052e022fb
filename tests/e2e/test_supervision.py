"""Kill, interrupt and repeat: the platform comes back, and leaves nothing behind."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from services.embedded.home import Home
from services.embedded.processes import leftovers
from services.embedded.state import PartState, supervisor_pid
from tests.e2e.conftest import RunningPlatform, new_platform

pytestmark = pytest.mark.e2e

_PARTS = (
    "postgres",
    "redis",
    "gateway",
    "serving",
    "dagster-code",
    "dagster-web",
    "dagster-ui",
    "dagster-daemon",
)
_PASSWORD = "seven lamps beneath the harbour"


def _until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.1)


def _part(platform: RunningPlatform, name: str) -> PartState:
    return next(part for part in platform.state.parts if part.name == name)


def _health(platform: RunningPlatform) -> str:
    try:
        return str(httpx.get(f"{platform.base_url}/health", timeout=10).json()["status"])
    except httpx.HTTPError:
        return "unreachable"


def _is_back(platform: RunningPlatform, name: str, killed: int | None) -> bool:
    part = _part(platform, name)
    return part.condition == "ready" and part.pid != killed and _health(platform) == "ok"


@pytest.fixture(scope="module")
def account(platform: RunningPlatform) -> dict[str, str]:
    """A user, whose row must survive everything here."""
    credentials = {"email": "supervision@example.com", "password": _PASSWORD}
    httpx.post(
        f"{platform.base_url}/auth/register", json=credentials, timeout=30
    ).raise_for_status()
    return credentials


def _can_log_in(platform: RunningPlatform, account: dict[str, str]) -> bool:
    answer = httpx.post(f"{platform.base_url}/auth/login", json=account, timeout=30)
    return answer.status_code == 200


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RunningPlatform]:
    """A second platform's home, where nothing runs."""
    second = new_platform(tmp_path / "home")
    yield second
    second.command("reset", "--yes")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Children heed SIGINT, which a shell's background jobs and what they start ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _supervisors(platform: RunningPlatform) -> list[psutil.Process]:
    """Return the supervisors of a home, also one that does not hold it yet."""
    mine = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_supervisor = "services.embedded.supervisor" in process.cmdline()
            if is_supervisor and process.environ()["POLYPLANE_HOME"] == str(platform.home):
                mine.append(process)
    return mine


@pytest.mark.parametrize("name", _PARTS)
def test_a_killed_part_comes_back(platform: RunningPlatform, name: str) -> None:
    killed = _part(platform, name).pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    _until(lambda: _is_back(platform, name, killed), timeout_s=90, what=f"{name} is back")


def test_a_second_up_says_that_it_runs(platform: RunningPlatform) -> None:
    output = platform.command("up")
    assert "runs already" in output
    assert platform.base_url in output


def test_status_shows_every_part(platform: RunningPlatform) -> None:
    output = platform.command("status")
    assert all(name in output for name in _PARTS)


def test_after_the_supervisors_death_two_ups_start_one_platform(
    platform: RunningPlatform, account: dict[str, str]
) -> None:
    killed = platform.state.pid
    os.kill(killed, signal.SIGKILL)
    _until(lambda: supervisor_pid(Home(platform.home)) is None, timeout_s=5, what="it is dead")
    first, second = platform.start_command("up"), platform.start_command("up")
    outputs = [process.communicate(timeout=300)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), "\n".join(outputs)
    assert platform.state.pid != killed
    _until(lambda: _health(platform) == "ok", timeout_s=30, what="the platform is well")
    assert _can_log_in(platform, account)


def test_down_leaves_no_process_and_up_finds_the_data(
    platform: RunningPlatform, account: dict[str, str]
) -> None:
    platform.command("down")
    assert leftovers(Home(platform.home)) == []
    platform.command("up")  # how long it takes: `make benchmark PARTS=start`
    _until(lambda: _health(platform) == "ok", timeout_s=30, what="the platform is well")
    assert _can_log_in(platform, account)


@pytest.mark.usefixtures("interruptible")
def test_a_taken_port_is_replaced_and_an_interrupted_up_stops_cleanly(
    other: RunningPlatform,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        up = other.start_command("up", GATEWAY_PORT=taken, POLYPLANE_STRICT_PORTS="0")
        assert up.stdout is not None
        assert any(f"Port {taken} is taken" in line for line in up.stdout)
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=120)
    assert up.returncode == 130
    assert leftovers(Home(other.home)) == []
    assert supervisor_pid(Home(other.home)) is None


@pytest.mark.usefixtures("interruptible")
def test_an_up_that_is_interrupted_at_once_leaves_no_supervisor(other: RunningPlatform) -> None:
    up = other.start_command("up")
    _until(lambda: _supervisors(other) != [], timeout_s=30, what="it begins")
    up.send_signal(signal.SIGINT)
    output, _ = up.communicate(timeout=120)
    assert up.returncode == 130, output
    assert _supervisors(other) == []
    assert leftovers(Home(other.home)) == []


@pytest.mark.usefixtures("interruptible")
def test_an_up_that_is_interrupted_while_it_says_where_it_runs_stops(
    other: RunningPlatform,
) -> None:
    up = other.start_command("up")
    assert up.stdout is not None
    assert any("Polyplane runs, after" in line for line in up.stdout)
    up.send_signal(signal.SIGINT)
    output, _ = up.communicate(timeout=120)
    assert up.returncode == 130, output
    assert _supervisors(other) == []
    assert leftovers(Home(other.home)) == []


def test_strict_ports_refuse_to_move(other: RunningPlatform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        with other.start_command("up", GATEWAY_PORT=taken) as up:
            output, _ = up.communicate(timeout=60)
    assert up.returncode == 1
    assert f"port {taken}" in output
    assert leftovers(Home(other.home)) == []
