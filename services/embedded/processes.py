"""Processes of this platform: started so that they end with it, and found again if they did not."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

from services.embedded.home import Home

INSTANCE_VARIABLE = "POLYPLANE_INSTANCE"
PART_VARIABLE = "POLYPLANE_PART"

_PR_SET_PDEATHSIG = 1
_SERVERS = ("postgres", "redis-server")


def end_with_parent(number: signal.Signals) -> Callable[[], None]:
    """Return what a child runs before its program: the kernel signals it when its parent ends."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(1)

    return ask_kernel


def leftovers(home: Home, part: str | None = None) -> list[psutil.Process]:
    """Return this platform's processes, grandchildren too, or those of one part.

    They carry a variable of the environment. PostgreSQL and Redis write over theirs; they are
    known by their folder.

    Raises:
        HomeRefused: The home points to the data of another one.
    """
    instance = home.instance
    folders = {"postgres": home.postgres, "redis": home.redis}
    wanted = (
        list(folders.values()) if part is None else [f for n, f in folders.items() if n == part]
    )

    def is_ours(process: psutil.Process) -> bool:
        marked = _is_marked(process, instance, part)
        return any(_serves_from(process, f) for f in wanted) if marked is None else marked

    return [p for p in psutil.process_iter() if p.pid != os.getpid() and is_ours(p)]


def end(processes: Iterable[psutil.Process], *, grace_s: float) -> None:
    """Stop processes: politely, then for good. Blocks until they are gone.

    Args:
        processes: Some may be gone already.
        grace_s: Between SIGTERM (SIGINT for PostgreSQL) and SIGKILL, seconds.

    Those that this account may not signal live on.
    """
    known = list(processes)
    # PostgreSQL's children end with their parent; a signal to each would be a crash to it.
    for process in [p for p in known if not _has_parent_in(p, known)] or known:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            is_postgres = process.name() == "postgres"
            process.send_signal(signal.SIGINT if is_postgres else signal.SIGTERM)
    for process in _wait(known, grace_s):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.kill()
    _wait(known, 5)


def _wait(processes: list[psutil.Process], timeout_s: float) -> list[psutil.Process]:
    """Wait until processes have ended; return those that have not."""
    deadline = time.monotonic() + timeout_s
    while (alive := [p for p in processes if _is_alive(p)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        # One that nobody has reaped is gone too: in a container, that may never happen.
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def end_all(home: Home, part: str | None = None, *, grace_s: float = 5) -> None:
    """End this platform's processes, or one part's, until none is found.

    Raises:
        TimeoutError: Some do not end.
    """
    deadline = time.monotonic() + grace_s + 10
    while found := leftovers(home, part):
        if time.monotonic() > deadline:
            raise TimeoutError(f"these processes do not end: {[p.pid for p in found]}")
        await asyncio.to_thread(end, found, grace_s=grace_s)


def proportional_memory_bytes(pid: int, *, with_children: bool = True) -> int | None:
    """Return the PSS of a process, with its descendants or without; None if it cannot be read."""
    try:
        root = psutil.Process(pid)
        family = [root, *(root.children(recursive=True) if with_children else ())]
    except psutil.NoSuchProcess:
        return None
    sizes = [_pss_bytes(process.pid) for process in family]
    known = [size for size in sizes if size is not None]
    return sum(known) if known else None


def _pss_bytes(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)


def _is_marked(process: psutil.Process, instance: str, part: str | None) -> bool | None:
    """Tell by its environment whether a process is wanted, None where it carries no such mark."""
    try:
        variables = process.environ()
    except psutil.Error:
        return None
    if variables.get(INSTANCE_VARIABLE) != instance:
        return None
    return part is None or variables.get(PART_VARIABLE) == part


def _serves_from(process: psutil.Process, folder: Path) -> bool:
    try:
        if process.name() not in _SERVERS:
            return False
        # The working directory of another account's process may be closed to us.
        with contextlib.suppress(psutil.AccessDenied):
            return Path(process.cwd()).is_relative_to(folder)
        return str(folder / "data") in process.cmdline()
    except psutil.Error:
        return False


def _has_parent_in(process: psutil.Process, others: list[psutil.Process]) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.ppid() in {other.pid for other in others}
    return False


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module with this interpreter."""
    # -P: the working directory is no place to import from.
    return [sys.executable, "-P", "-m", module, *arguments]
