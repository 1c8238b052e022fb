"""Which processors what is measured runs on, and which the rest.

On two processors both halves are one: the server on the first, the load generator, the stores and
whatever else the measurement needs on the second. A child inherits its parent's processors.
"""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil


@dataclass(frozen=True, slots=True)
class Cores:
    """The processors of this process, divided in two; with only one, both halves are that one."""

    measured: frozenset[int]
    load: frozenset[int]

    @classmethod
    def of_this_process(cls) -> Self:
        """Divide what this process may use."""
        usable = sorted(os.sched_getaffinity(0))
        half = max(1, len(usable) // 2)
        return cls(frozenset(usable[:half]), frozenset(usable[half:] or usable))

    @property
    def all(self) -> frozenset[int]:
        """Both halves."""
        return self.measured | self.load


def pinned(cores: frozenset[int], *command: str) -> list[str]:
    """Return a command that runs, with all its threads and children, on some processors."""
    return ["taskset", "--cpu-list", ",".join(map(str, sorted(cores))), *command]


def pin(pid: int, cores: frozenset[int], *, descendants: bool = True) -> None:
    """Keep a running process, its threads and descendants on some processors; 0 means this one.

    What ends meanwhile is left alone.
    """
    process = psutil.Process(pid or os.getpid())
    for each in (process, *(process.children(recursive=True) if descendants else ())):
        with suppress(psutil.NoSuchProcess):
            for thread in each.threads():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, cores)
