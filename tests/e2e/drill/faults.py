"""What is killed, and at which step of the work."""

import json
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.conftest import RunningPlatform

STEPS = ("received", "claimed", "parsed", "chunked", "embedded", "indexed", "published", "removed")
VICTIMS = ("worker", "dagster-code", "postgres", "dagster-daemon", "gateway")
_BEGINNING_S = 60
_LATENESS_S = 0.1
_LOOK_EVERY_S = 0.003


@dataclass(frozen=True, slots=True)
class Fault:
    """Kill `victim` up to a tenth of a second after `step`; the seed chooses how long."""

    seed: str
    step: str
    victim: str


def plan(seed: int, rounds: int) -> list[Fault]:
    """Return as many faults, spread over steps and victims; 40 of them are all pairs."""
    source = random.Random(seed)  # noqa: S311 - nothing secret
    steps, victims = source.sample(STEPS, len(STEPS)), source.sample(VICTIMS, len(VICTIMS))
    return [
        Fault(f"{seed}r{n}", steps[n % len(steps)], victims[n % len(victims)])
        for n in range(rounds)
    ]


class Killer:
    """Waits for the step of a fault and kills its victim."""

    def __init__(self, platform: RunningPlatform, fault: Fault) -> None:
        """Store what is killed where."""
        self._platform = platform
        self._fault = fault

    def strike(self, is_reached: Callable[[], bool]) -> bool:
        """Kill the victim once the step is reached; tell whether it was still there.

        Args:
            is_reached: Whether the work has come to the step.
        """
        find = self._worker if self._fault.victim == "worker" else self._part
        victim = self._waited_for(find, is_reached)
        while not is_reached():
            time.sleep(_LOOK_EVERY_S)
        lateness = random.Random(self._fault.seed).uniform(0, _LATENESS_S)  # noqa: S311
        time.sleep(lateness)
        with suppress(psutil.NoSuchProcess):
            victim = victim or find()
            if victim is not None:
                os.kill(victim.pid, signal.SIGKILL)
                return True
        return False

    def _waited_for(
        self, find: Callable[[], psutil.Process | None], is_reached: Callable[[], bool]
    ) -> psutil.Process | None:
        """Look for the victim in advance, because that takes longer than some steps."""
        deadline = time.monotonic() + _BEGINNING_S
        while (found := find()) is None and time.monotonic() < deadline:
            if self._fault.step != "received" and is_reached():
                return None
            time.sleep(_LOOK_EVERY_S)
        return found

    def _part(self) -> psutil.Process | None:
        parts = self._platform.state.parts
        pid = next(part.pid for part in parts if part.name == self._fault.victim)
        return None if pid is None else psutil.Process(pid)

    def _worker(self) -> psutil.Process | None:
        """Return the process of the run that ingests; it has a parser's process."""
        code = next(part.pid for part in self._platform.state.parts if part.name == "dagster-code")
        with suppress(psutil.Error):
            for run in psutil.Process(code).children():
                if any("parse_server" in " ".join(each.cmdline()) for each in run.children()):
                    return run
        return None


def has_come_to(objects: Path, step: str, versions: set[str]) -> bool:
    """Whether a run has come through a step with one of some versions."""
    with suppress(FileNotFoundError):  # a run that ends removes its files meanwhile
        for path in (objects / "batches").rglob(f"{step}.jsonl"):
            works = (json.loads(line) for line in path.read_text().splitlines())
            if any(work["version_id"] in versions for work in works):
                return True
    return False
