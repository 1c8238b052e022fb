"""The ladder: what each step of a chat costs one gateway process on one core."""

import json
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from tests.benchmarks.gateway.world import Asker, World, askers, cpu_s, served, world
from tests.benchmarks.gateway.wrk import Ask, Load, drive, write_asks
from tests.benchmarks.records import Conditions, Measurement

PEOPLE, CONVERSATIONS = 16, 64
_CONNECTIONS = 64
_DELTAS = 50
_RATES = {"chat": 7000.0}
_EVENT_US = 25.0


class RequestsFailed(Exception):
    """A measured step has answered with errors."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, what is asked, and how many events each answer has."""

    name: str
    asks: Callable[[list[Asker]], list[Ask]]
    events: int = 1


def _get(path: str) -> Callable[[list[Asker]], list[Ask]]:
    return lambda people: [Ask(path, person.token) for person in people]


def _chats(path: str = "/chat", **options: object) -> Callable[[list[Asker]], list[Ask]]:
    """Ask in every conversation in turn, so that none has two answers under way."""

    def asks(people: list[Asker]) -> list[Ask]:
        return [
            Ask(path, person.token, json.dumps({"conversation_id": place, **options}))
            for places in zip(*(person.conversations for person in people), strict=True)
            for person, place in zip(people, places, strict=True)
        ]

    return asks


_QUESTION = "What follows from the third rule, and where is it written down?"
STEPS = (
    Step("hello", _get("/steps/hello")),
    Step("jwt", _get("/steps/jwt")),
    Step("limits", _get("/steps/limits")),
    Step("book", _chats("/steps/book", message=_QUESTION, mode="open")),
    Step("chat", _chats(message=_QUESTION, mode="open", max_tokens=1)),
    Step(
        "sse",
        _chats(message=_QUESTION, mode="open", max_tokens=_DELTAS, stream=True),
        events=_DELTAS + 3,
    ),
)


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat of one step, with processor microseconds a request by process."""

    load: Load
    cpu_us: dict[str, float]


def run_step(running: World, url: str, process: psutil.Process, asks: Path, *, seconds: int) -> Run:
    """Drive one step and return what it cost."""
    pids = {"gateway": process.pid, **running.beside}
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    load = drive(url, asks, connections=_CONNECTIONS, seconds=seconds)
    spent = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    return Run(load, {name: each / max(1, load.requests) * 1e6 for name, each in spent.items()})


def measure(
    conditions: Conditions, *, seconds: int = 8, only: Collection[str] = ()
) -> Iterator[Measurement]:
    """Run the ladder on servers of its own; the steps take turns.

    Raises:
        RequestsFailed: A step has answered with errors: what it costs says nothing.
    """
    steps = [step for step in STEPS if not only or step.name in only]
    with (
        world(conditions.cores) as running,
        served(running, "tests.benchmarks.gateway.process") as (url, process),
    ):
        people = askers(url, people=PEOPLE, conversations=CONVERSATIONS)
        files = {s.name: write_asks(running.folder, s.name, s.asks(people)) for s in steps}
        works = {
            step.name: partial(run_step, running, url, process, files[step.name], seconds=seconds)
            for step in steps
        }
        for work in works.values():  # warm
            work(seconds=1)
        runs: dict[str, list[Run]] = {step.name: [] for step in steps}
        for _ in range(conditions.rounds):
            for name, work in works.items():
                runs[name].append(work())
    for step in steps:
        yield from _of(step, runs[step.name])


def _of(step: Step, runs: list[Run]) -> Iterator[Measurement]:
    name = f"gateway.{step.name}"
    if failed := sum(run.load.failed for run in runs):
        raise RequestsFailed(f"{failed} requests of the step {step.name} failed")
    rates = tuple(run.load.requests_per_s for run in runs)
    yield Measurement(f"{name}.rate", "requests/s", rates, "higher", goal=_RATES.get(step.name))
    for percent in ("p50", "p95", "p99"):
        times = tuple(getattr(run.load, f"{percent}_ms") for run in runs)
        yield Measurement(f"{name}.{percent}", "ms", times, "lower")
    for process in runs[0].cpu_us:
        spent = tuple(run.cpu_us[process] for run in runs)
        if all(spent):
            yield Measurement(f"{name}.cpu.{process}", "µs", spent, "lower")
    if step.events > 1:
        events = tuple(run.cpu_us["gateway"] / step.events for run in runs)
        yield Measurement(f"{name}.cpu.event", "µs", events, "lower", goal=_EVENT_US)


def shown(measurements: Iterable[Measurement]) -> str:
    """Return the measurements as lines: median, and the spread from least to most."""
    lines = []
    for each in measurements:
        low, high = min(each.samples), max(each.samples)
        middle = statistics.median(each.samples)
        lines.append(f"{each.name:30} {middle:10.1f} {each.unit:10} ({low:.1f}-{high:.1f})")
    return "\n".join(lines)
