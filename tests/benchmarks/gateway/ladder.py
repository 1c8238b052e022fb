"""The ladder: what each step of a chat costs one gateway process on one core.

Beside its chat stand two other servers under the same load: `bare`, the same work on libraries
alone, and `plain`, a chain of FastAPI's dependencies.
"""

import json
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from uuid import UUID

import jwt
import psutil

from tests.benchmarks.gateway.beside import DATABASE_VARIABLE
from tests.benchmarks.gateway.books import check_books, open_books
from tests.benchmarks.gateway.world import Asker, World, askers, cpu_s, served, world
from tests.benchmarks.gateway.wrk import Ask, Load, drive, write_asks
from tests.benchmarks.records import Conditions, Measurement

PEOPLE, CONVERSATIONS = 16, 64
CONNECTIONS = 64
_DELTAS = 50
_RATES = {"chat": 7000.0}
_EVENT_US = 25.0
_PRODUCT = "tests.benchmarks.gateway.process"
_BESIDE = {"chat": ("bare", "plain"), "sse": ("bare_sse",)}


class RequestsFailed(Exception):
    """A measured step has answered with errors."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, what is asked, how many events each answer has, and which server."""

    name: str
    asks: Callable[[list[Asker]], list[Ask]]
    events: int = 1
    server: str = _PRODUCT


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


QUESTION = "What follows from the third rule, and where is it written down?"
"""What all ask, and whoever is measured beside."""
CHAT = _chats(message=QUESTION, mode="open", max_tokens=1)
"""What the step `chat` asks, and whoever else measures it."""
STREAM = _chats(message=QUESTION, mode="open", max_tokens=_DELTAS, stream=True)
"""What the step `sse` asks."""
STEPS = (
    Step("hello", _get("/steps/hello")),
    Step("jwt", _get("/steps/jwt")),
    Step("limits", _get("/steps/limits")),
    Step("book", _chats("/steps/book", message=QUESTION, mode="open")),
    Step("chat", CHAT),
    Step("bare", CHAT, server="tests.benchmarks.gateway.bare"),
    Step("plain", CHAT, server="tests.benchmarks.gateway.plain"),
    Step("sse", STREAM, events=_DELTAS + 3),
    Step("bare_sse", STREAM, events=_DELTAS + 3, server="tests.benchmarks.gateway.bare"),
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
    load = drive(url, asks, connections=CONNECTIONS, seconds=seconds)
    spent = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    return Run(load, {name: each / max(1, load.requests) * 1e6 for name, each in spent.items()})


def measure(
    conditions: Conditions, *, seconds: int = 6, only: Collection[str] = ()
) -> Iterator[Measurement]:
    """Run the ladder on servers of its own; the steps take turns.

    Raises:
        RequestsFailed: A step has answered with errors: what it costs says nothing.
        BooksWrong: The product's quotas differ from its ledger, or a server beside it has not done
            the work.
    """
    steps = [step for step in STEPS if not only or step.name in only]
    with world(conditions.cores) as running, ExitStack() as stack:
        servers = {_PRODUCT: stack.enter_context(served(running, _PRODUCT))}
        people = askers(servers[_PRODUCT][0], people=PEOPLE, conversations=CONVERSATIONS)
        open_books(running.owner_url, [tenant_of(person) for person in people])
        for module in {step.server for step in steps} - {_PRODUCT}:
            extra = {DATABASE_VARIABLE: running.owner_url}
            servers[module] = stack.enter_context(served(running, module, extra))
        works = {}
        for step in steps:
            asks = write_asks(running.folder, step.name, step.asks(people))
            works[step.name] = partial(
                run_step, running, *servers[step.server], asks, seconds=seconds
            )
        for work in works.values():  # warm
            work(seconds=1)
        runs: dict[str, list[Run]] = {step.name: [] for step in steps}
        for _ in range(conditions.rounds):
            for name, work in works.items():
                runs[name].append(work())
        check_books(running.owner_url)
    yield from known_beside([each for step in steps for each in _of(step, runs[step.name])])


def known_beside(measurements: Sequence[Measurement]) -> Iterator[Measurement]:
    """Leave out what should stand beside a measurement and was not measured."""
    names = {each.name for each in measurements}
    for each in measurements:
        yield replace(each, beside=tuple(name for name in each.beside if name in names))


def check(name: str, loads: Iterable[Load]) -> None:
    """Refuse what was answered with errors, or not at all.

    Raises:
        RequestsFailed: It names what was measured.
    """
    for load in loads:
        if load.failed or not load.requests:
            raise RequestsFailed(f"{name}: {load.failed} of {load.requests} requests failed")


def tenant_of(person: Asker) -> UUID:
    """Return whose money a person spends, as the token says it."""
    return UUID(jwt.decode(person.token, options={"verify_signature": False})["tenant"])


def _of(step: Step, runs: list[Run]) -> Iterator[Measurement]:
    name = f"gateway.{step.name}"

    def others(figure: str) -> tuple[str, ...]:
        return tuple(f"gateway.{other}.{figure}" for other in _BESIDE.get(step.name, ()))

    check(step.name, [run.load for run in runs])
    rates = tuple(run.load.requests_per_s for run in runs)
    goal = _RATES.get(step.name)
    yield Measurement(f"{name}.rate", "requests/s", rates, "higher", others("rate"), goal)
    for percent in ("p50", "p95", "p99"):
        times = tuple(getattr(run.load, f"{percent}_ms") for run in runs)
        yield Measurement(f"{name}.{percent}", "ms", times, "lower", others(percent))
    for process in runs[0].cpu_us:
        spent = tuple(run.cpu_us[process] for run in runs)
        if all(spent):
            figure = f"cpu.{process}"
            yield Measurement(f"{name}.{figure}", "µs", spent, "lower", others(figure))
    if step.events > 1:
        events = tuple(run.cpu_us["gateway"] / step.events for run in runs)
        goal = _EVENT_US if step.server == _PRODUCT else None
        yield Measurement(f"{name}.cpu.event", "µs", events, "lower", others("cpu.event"), goal)


def shown(measurements: Iterable[Measurement]) -> str:
    """Return the measurements as lines: median, and the spread from least to most."""
    lines = []
    for each in measurements:
        low, high = min(each.samples), max(each.samples)
        middle = statistics.median(each.samples)
        lines.append(f"{each.name:30} {middle:10.1f} {each.unit:10} ({low:.1f}-{high:.1f})")
    return "\n".join(lines)
