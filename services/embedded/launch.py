"""Start and stop a home's supervisor from a terminal."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from services.embedded.home import Home
from services.embedded.logs import RotatingLog, tail
from services.embedded.processes import end, leftovers, python_module
from services.embedded.state import PlatformState, last_state, read_state, supervisor_pid

_POLL_S = 0.1
_GIVE_UP_AFTER_RESTARTS = 3
_START_S = 300.0  # once the stores are migrated
_MIGRATION_S = 3600.0  # search indexes of many chunks take long
_STOP_S = 90.0
_PATHS = ("_FILE", "_CA", "_DIR", "_TLS_CERTIFICATE", "_TLS_KEY")
_OURS = (
    "POLYPLANE_", "GATEWAY_", "SERVING_", "DATA_", "DATABASE_", "REDIS_", "S3_", "OBJECTS_",
    "CQL_", "MONGO_", "QDRANT_", "EMBEDDING_",
)  # fmt: skip
_LEFTOVERS_S = 30.0


Started: TypeAlias = subprocess.Popen[bytes]
"""A supervisor that was started, which may find that another one runs."""


class StartFailed(RuntimeError):
    """The platform did not start; the message says why and shows the end of a log."""


class StopFailed(RuntimeError):
    """Processes of the platform are left; the message names them."""


def start(home: Home, environment: Mapping[str, str]) -> Started:
    """Detach a supervisor, which ends at once if another one runs on this home."""
    home.create()
    RotatingLog(home.logs / "supervisor.log").rotate_if_full()
    with (home.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(  # noqa: S603 - our own program
            python_module("services.embedded.supervisor"),
            env={**with_whole_paths(environment), "POLYPLANE_HOME": str(home.root)},
            cwd=home.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def follow_start(home: Home, process: Started) -> Iterator[PlatformState | None]:
    """Yield the platform's states until it runs, about ten a second; None before the first.

    Raises:
        StartFailed: The supervisor ended, a part keeps dying, or it takes too long.
    """
    began = time.monotonic()
    deadline, last_deadline = began + _START_S, began + _MIGRATION_S + _START_S
    while time.monotonic() < deadline:
        state = read_state(home)
        ended = process.poll() is not None
        yield state
        if state is not None and not _is_migrated(state):
            deadline = min(time.monotonic() + _START_S, last_deadline)
        if state is not None:
            if state.phase == "running":
                return
            _check_parts(home, state)
        elif ended and supervisor_pid(home) is None:
            raise StartFailed(_why_supervisor_ended(home, process))
        time.sleep(_POLL_S)
    waited = f"Not ready after {time.monotonic() - began:.0f} s."
    raise StartFailed(f"{waited} `polyplane status` shows what is missing.")


def with_whole_paths(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an operator's variables, with paths that hold in another working directory too."""
    return {
        name: str(Path(value).expanduser().absolute())
        if value and name.endswith(_PATHS) and name.startswith(_OURS)
        else value
        for name, value in environment.items()
    }


def undo(home: Home, process: Started) -> Iterator[PlatformState | None]:
    """Stop what `start` has started, yielding the platform's states meanwhile.

    It is asked directly: a supervisor that does not hold the home yet is not known by it. What
    another supervisor runs is left alone.

    Raises:
        StopFailed: Some processes do not end.
        HomeRefused: The home points to the data of another one.
    """
    process.terminate()
    deadline = time.monotonic() + _STOP_S
    while process.poll() is None and time.monotonic() < deadline:
        yield read_state(home)
        time.sleep(_POLL_S)
    process.kill()
    process.wait()
    if supervisor_pid(home) is None:
        yield from stop(home)


def stop(home: Home) -> Iterator[PlatformState | None]:
    """Stop the platform, yielding its states meanwhile; afterwards no process of it is left.

    Raises:
        StopFailed: Some processes do not end.
        HomeRefused: The home points to the data of another one.
    """
    pid = supervisor_pid(home)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_S
        while supervisor_pid(home) == pid and time.monotonic() < deadline:
            yield read_state(home)
            time.sleep(_POLL_S)
        if supervisor_pid(home) == pid:
            _signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + _LEFTOVERS_S
    while found := leftovers(home):
        if time.monotonic() > deadline:
            pids = ", ".join(str(process.pid) for process in found)
            raise StopFailed(f"These processes do not end: {pids}.")
        end(found, grace_s=5)


def _is_migrated(state: PlatformState) -> bool:
    return not any(part.name == "migrations" and part.condition != "done" for part in state.parts)


def _check_parts(home: Home, state: PlatformState) -> None:
    for part in state.parts:
        if part.restarts >= _GIVE_UP_AFTER_RESTARTS and part.ready_after_s is None:
            lines = "\n".join(f"  {line}" for line in tail(home.logs / f"{part.name}.log", 15))
            raise StartFailed(
                f"{part.name} does not start ({part.detail}). The end of its log:\n{lines}"
            )


def _why_supervisor_ended(home: Home, process: Started) -> str:
    state = last_state(home)
    if state is not None and state.pid == process.pid and state.message:
        return state.message
    lines = "\n".join(f"  {line}" for line in tail(home.logs / "supervisor.log", 15))
    return f"The supervisor ended with code {process.returncode}. The end of its log:\n{lines}"


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
    except PermissionError as error:
        raise StopFailed(f"The supervisor, process {pid}, is another account's.") from error
