"""Processor seconds of the platform's processes and of the load generator, while people ask.

What a process used between the last look at it and its end is missing.
"""

import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.benchmarks.cpu import Process, platform_processes

_EVERY_S = 2.0
GENERATOR = "load generator"


@dataclass(frozen=True, slots=True)
class Look:
    """Processor seconds since the first look, by kind of process, at a moment."""

    at: float
    cpu_s: dict[str, float]


class Processors:
    """Looks every two seconds, while entered."""

    def __init__(self, home: Path, generator_pid: int) -> None:
        """Store whose processes.

        Args:
            home: Of the platform.
            generator_pid: What asks, without children.
        """
        self._home = home
        self._generator = psutil.Process(generator_pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="processors", daemon=True)
        self._last: dict[Process, float] = {}
        self._used: dict[str, float] = defaultdict(float)
        self.looks: list[Look] = []

    def __enter__(self) -> Self:
        """Begin to look."""
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self._look()

    def _look(self) -> None:
        seconds = platform_processes(self._home)
        try:
            times = self._generator.cpu_times()
        except psutil.NoSuchProcess:  # it has ended
            return
        seconds[GENERATOR, self._generator.pid, 0.0] = times.user + times.system
        for process, used in seconds.items():
            before = self._last.get(process, 0.0 if self.looks else used)
            self._used[process[0]] += used - before
        self._last = seconds
        self.looks.append(Look(time.time(), dict(self._used)))
