"""The gateway's memory under load for SOAK_MINUTES (60): is it small, and does it stay so?

One process, as in the ladder: in each minute mostly whole chats, then streams, which are still
under way when their readers leave; so each kind has conversations of its own. Access tokens live
ten minutes, so new people come every eight.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console

from services.embedded.processes import proportional_memory_bytes
from tests.benchmarks.gateway.ladder import (
    CHAT,
    CONNECTIONS,
    CONVERSATIONS,
    PEOPLE,
    STREAM,
)
from tests.benchmarks.gateway.world import Asker, World, askers, served, world
from tests.benchmarks.gateway.wrk import Load, drive, write_asks
from tests.benchmarks.records import Conditions, Measurement

_PRODUCT = "services.gateway"
_CHAT_S, _STREAM_S = 48, 12
_PEOPLE_STAY = 8  # minutes
_LEAST_MINUTES = 10
_GOAL_MB = 100.0
_GOAL_GROWTH = 1.01  # of an hour: a megabyte of a hundred
_GOAL_ANSWERED = 99.99
_console = Console(stderr=True, highlight=False)


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure the memory once a minute; its growth is that of the second half, after warming.

    Raises:
        SystemExit: Fewer minutes than a growth can be seen in.
    """
    minutes = int(os.environ.get("SOAK_MINUTES", "60"))
    if minutes < _LEAST_MINUTES:
        raise SystemExit(f"SOAK_MINUTES={minutes}: fewer than {_LEAST_MINUTES} show no growth")
    loads, samples_mb = list[Load](), list[float]()
    with world(conditions.cores) as running, served(running, _PRODUCT) as (url, process):
        for minute in range(minutes):
            if minute % _PEOPLE_STAY == 0:
                asks = _asks(running, url)
            loads += _minute(url, asks)
            samples_mb.append(_memory_mb(process))
            _console.print(
                f"minute {minute + 1}: {sum(each.requests for each in loads)} answers, "
                f"{sum(each.failed for each in loads)} of them errors, {samples_mb[-1]:.1f} MB"
            )
    yield from measured(loads, samples_mb)


def measured(loads: Sequence[Load], samples_mb: Sequence[float]) -> Iterator[Measurement]:
    """Yield what the loads, and the memory after each minute, come to."""
    late = samples_mb[len(samples_mb) // 2 :]
    growth = 1 + 60 * np.polyfit(np.arange(len(late)), late, 1)[0] / np.mean(late)
    yield Measurement("soak.memory", "MB", tuple(late), "lower", goal=_GOAL_MB)
    yield Measurement("soak.growth", "x/h", (float(growth),), "lower", goal=_GOAL_GROWTH)
    requests = sum(each.requests for each in loads)
    answers = requests - sum(each.failed for each in loads)
    yield Measurement("soak.answers", "answers", (float(answers),), "higher")
    share = 100 * answers / requests
    yield Measurement("soak.answered", "%", (share,), "higher", goal=_GOAL_ANSWERED)


def _asks(running: World, url: str) -> tuple[Path, Path]:
    people = askers(url, people=PEOPLE, conversations=2 * CONVERSATIONS)
    return (
        write_asks(running.folder, "chat", CHAT([_half(each, 0) for each in people])),
        write_asks(running.folder, "sse", STREAM([_half(each, 1) for each in people])),
    )


def _half(person: Asker, which: int) -> Asker:
    return replace(person, conversations=person.conversations[which::2])


def _minute(url: str, asks: tuple[Path, Path]) -> list[Load]:
    """Drive both kinds."""
    chats, streams = asks
    return [
        drive(url, chats, connections=CONNECTIONS, seconds=_CHAT_S),
        drive(url, streams, connections=CONNECTIONS, seconds=_STREAM_S),
    ]


def _memory_mb(process: psutil.Process) -> float:
    return (proportional_memory_bytes(process.pid) or 0) / 1e6
