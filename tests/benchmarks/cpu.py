"""Processor seconds by kind of process, of a platform or of any process with its descendants."""

from collections import defaultdict
from pathlib import Path

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
    "ray": "rest of Ray",
    "services.embedded": "supervisor",
}


class NoPlatform(Exception):
    """No platform runs in a home."""


def platform_cpu_s(home: Path) -> dict[str, float]:
    """Return the processor seconds so far of a running platform, by kind of process.

    Those of processes that ended since are missing. The clock ticks a hundred times a second.

    Raises:
        NoPlatform: None runs there.
    """
    pid = supervisor_pid(Home(home))
    if pid is None:
        raise NoPlatform(f"no platform runs in {home}")
    return tree_cpu_s(pid)


def tree_cpu_s(pid: int) -> dict[str, float]:
    """Return the processor seconds so far of a process and its descendants, by kind."""
    root = psutil.Process(pid)
    seconds: dict[str, float] = defaultdict(float)
    for process in (root, *root.children(recursive=True)):
        try:
            command, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.Error:  # it ended
            continue
        kind = next((kind for word, kind in _KINDS.items() if word in command), "other")
        seconds[kind] += times.user + times.system
    return dict(seconds)


def used_s(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """Return what was used between two looks."""
    return {kind: after[kind] - before.get(kind, 0.0) for kind in after}
