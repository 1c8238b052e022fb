"""Processor seconds by kind of process, of a platform or of any process with its descendants."""

from collections import defaultdict
from pathlib import Path
from typing import TypeAlias

import psutil

from services.embedded.home import Home
from services.embedded.state import supervisor_pid

_KINDS = {  # a word of the command line, and what the process is called here
    "services.gateway": "gateway",
    ":Ingress": "ingress",
    ":Embedder": "embedder",
    ":Generator": "generator",
    "haproxy": "proxy",
    "postgres": "postgres",
    "redis-server": "redis",
    "dagster": "dagster",
    "planes.data": "dagster",
    "multiprocessing": "dagster",  # its runs
    "ray": "rest of Ray",
    "services.embedded": "supervisor",
}


Process: TypeAlias = tuple[str, int, float]
"""Its kind, its id and when it began."""


class NoPlatform(Exception):
    """No platform runs in a home."""


def platform_cpu_s(home: Path) -> dict[str, float]:
    """Return the processor seconds so far of a running platform, by kind of process.

    Those of processes that ended since are missing. The clock ticks a hundred times a second.

    Raises:
        NoPlatform: None runs there.
    """
    return _by_kind(platform_processes(home))


def tree_cpu_s(pid: int) -> dict[str, float]:
    """Return the processor seconds so far of a process and its descendants, by kind."""
    return _by_kind(_tree(pid))


def platform_processes(home: Path) -> dict[Process, float]:
    """Return the processor seconds so far of each process of a running platform.

    Raises:
        NoPlatform: None runs there.
    """
    pid = supervisor_pid(Home(home))
    if pid is None:
        raise NoPlatform(f"no platform runs in {home}")
    return _tree(pid)


def _tree(pid: int) -> dict[Process, float]:
    root, seconds = psutil.Process(pid), dict[Process, float]()
    for process in (root, *root.children(recursive=True)):
        try:
            command, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:  # it ended
            continue
        kind = next((kind for word, kind in _KINDS.items() if word in command), "other")
        seconds[kind, process.pid, process.create_time()] = times.user + times.system
    return seconds


def _by_kind(seconds: dict[Process, float]) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for (kind, _, _), used in seconds.items():
        sums[kind] += used
    return dict(sums)


def used_s(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return what was used between two looks."""
    return {kind: after[kind] - before.get(kind, 0.0) for kind in after}
