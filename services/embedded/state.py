"""What the supervisor says about itself, in a file that the commands read."""

import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from services.embedded.files import write_atomically
from services.embedded.home import Home
from services.embedded.ports import admin_ports, url
from services.embedded.servers import Mode

_FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, process

Phase = Literal["starting", "running", "stopping", "failed"]
PartCondition = Literal[
    "waiting", "starting", "ready", "done", "not answering", "restarting", "stopping", "stopped"
]


class PartState(BaseModel):
    """One part, as last seen."""

    name: str
    condition: PartCondition = "waiting"
    pid: int | None = None
    restarts: int = 0
    started_at: float | None = Field(default=None, description="Unix time, s")
    ready_after_s: float | None = None
    detail: str | None = None


class PlatformState(BaseModel):
    """The whole platform, as last seen."""

    pid: int
    started_at: float = Field(description="Unix time, s")
    phase: Phase = "starting"
    message: str | None = None
    mode: Mode = "embedded"
    host: str = "127.0.0.1"
    tls: bool = False
    ports: dict[str, int] = {}
    notes: list[str] = []
    parts: list[PartState] = []

    @property
    def gateway_url(self) -> str:
        """Where clients find the API."""
        return url(self.host, self.ports["gateway"], tls=self.tls)

    @property
    def admin_url(self) -> str:
        """Where health details and metrics of the first gateway process are, on loopback."""
        return f"http://127.0.0.1:{self.ports['admin']}"

    @property
    def admin_urls(self) -> dict[str, str]:
        """The same of every gateway process, by the name of its part."""
        ports = admin_ports(self.ports)
        return {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}

    @property
    def dagster_url(self) -> str:
        """Where people look at Dagster, read-only, on loopback."""
        return f"http://127.0.0.1:{self.ports['dagster_ui']}"


def write_state(home: Home, state: PlatformState) -> None:
    """Replace the state file."""
    write_atomically(home.state_file, state.model_dump_json(indent=2))


def read_state(home: Home) -> PlatformState | None:
    """Return what the running supervisor last wrote, None when none runs or it has not yet."""
    pid = supervisor_pid(home)
    if pid is None:
        return None
    state = last_state(home)
    return state if state is not None and state.pid == pid else None


def last_state(home: Home) -> PlatformState | None:
    """Return what the last supervisor wrote, alive or not."""
    try:
        return PlatformState.model_validate_json(home.state_file.read_text("utf-8"))
    except (FileNotFoundError, ValidationError):
        return None


def supervisor_pid(home: Home) -> int | None:
    """Return the process id of the supervisor that runs, or None."""
    try:
        handle = os.open(home.lock_file, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else int(pid)
    finally:
        os.close(handle)


class AlreadyRunning(RuntimeError):
    """Another supervisor holds this home."""


@contextmanager
def supervisor_lock(path: Path) -> Iterator[None]:
    """Hold the home; the kernel lets go of it however the process ends.

    Raises:
        AlreadyRunning: Another process holds it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    try:
        # A record lock: children do not inherit it, and others can ask who holds it.
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise AlreadyRunning("Another supervisor runs on this home.") from error
