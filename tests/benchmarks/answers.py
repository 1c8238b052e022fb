"""Answers from documents by the whole platform, beside a loop that embeds, searches and compares.

Every question is asked once, so no cache of answers and passages could know it; both are off. It
is asked streamed, by one connection or 64, of ten documents about 400 doors, which have been asked
about before. The asking program shares the processors; what it takes of them is told.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import httpx

from services.cli.demo_client import DemoClient
from tests.benchmarks import bare_answers
from tests.benchmarks.bare_answers import BareAnswers
from tests.benchmarks.cpu import platform_cpu_s, tree_cpu_s, used_s
from tests.benchmarks.platform import running_platform
from tests.benchmarks.records import Conditions, Measurement, in_turns
from tests.evaluation.answer_load import asked, library, text_of
from tests.evaluation.own_database import own_database

UNCACHED = {"SERVING_CACHE_ANSWERS": "off", "SERVING_CACHE_REDIS_BYTES": "0"}
"""Settings with which no cache knows an answer or a passage."""
_CONNECTIONS = {"one": 1, "many": 64}
_QUESTIONS = {"one": 40, "many": 256}
MOST_ROUNDS = 6  # there are no more questions
_ASKED = (
    "Which code opens door {}?",
    "How is door {} opened?",
    "What code does door {} have?",
    "Tell me the code for door {}.",
    "Where hangs the key of door {}?",
    "Who may copy the key of door {}?",
)
_GOALS = {"one.p50_ms": 15.0, "many.p99_ms": 400.0, "many.rate": 200.0}
_FIELDS: tuple[tuple[str, str, Literal["higher", "lower"]], ...] = (
    ("rate", "answers/s", "higher"),
    ("p50_ms", "ms", "lower"),
    ("p99_ms", "ms", "lower"),
    ("cpu_ms", "CPU-ms/answer", "lower"),
)
_IN_BACKGROUND = {"dagster", "supervisor", "other"}  # no part of an answer


Ask: TypeAlias = Callable[[Sequence[str], int], Coroutine[Any, Any, list[float]]]
"""Asks questions by so many connections, and returns the seconds that each took."""
Cpu: TypeAlias = Callable[[], dict[str, float]]


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of questions took; processor time is that of an answer.

    `asking_ms` is what the asking program used of it, beside the platform.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    asking_ms: float


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure both ways of asking, the platform and the loop in turns; neither is pinned."""
    with running_platform(**UNCACHED) as platform, own_database() as urls, asyncio.Runner() as run:
        with httpx.Client(base_url=platform.base_url, timeout=120) as http:
            token, doors = library(DemoClient(http), http, platform.environment)
        names, bare = list(doors), BareAnswers(urls)
        run.run(bare.open([text_of([name]).split("\n\n") for name in names]))
        asks: dict[str, tuple[Ask, Cpu]] = {
            "platform": (
                partial(ask_platform, platform.base_url, token),
                partial(platform_cpu_s, platform.home),
            ),
            "bare": (partial(bare_answers.asked, bare), _own_cpu_s),
        }
        questions = {who: questions_about(names) for who in asks}
        for way in _CONNECTIONS:
            works = {
                who: partial(one_round, run, way, ask, cpu, questions[who])
                for who, (ask, cpu) in asks.items()
            }
            yield from _measurements(way, in_turns(min(conditions.rounds, MOST_ROUNDS), works))
        run.run(bare.close())


def questions_about(names: Sequence[str]) -> Iterator[str]:
    """Yield every way of asking about every door, in an order without one."""
    found = [question.format(name) for question in _ASKED for name in names]
    random.Random(1).shuffle(found)  # noqa: S311 - nothing secret
    yield from found


async def ask_platform(
    address: str, token: str, questions: Sequence[str], connections: int
) -> list[float]:
    """Ask every question once, so many at a time; return the seconds that each took."""
    return [answer.total_s for answer in await asked(address, token, questions, connections)]


def _own_cpu_s() -> dict[str, float]:
    """Of the loop and its PostgreSQL, which it started."""
    return {"loop": sum(tree_cpu_s(os.getpid()).values())}


def one_round(run: asyncio.Runner, way: str, ask: Ask, cpu: Cpu, questions: Iterator[str]) -> Round:
    """Ask what was not asked yet; the first round makes all passages known."""
    some = list(itertools.islice(questions, _QUESTIONS[way]))
    before, own, started = cpu(), time.process_time(), time.perf_counter()
    taken_s = sorted(run.run(ask(some, _CONNECTIONS[way])))
    elapsed_s, own_s = time.perf_counter() - started, time.process_time() - own
    used = {kind: each for kind, each in used_s(before, cpu()).items() if each > 0}
    used = {kind: each for kind, each in used.items() if kind not in _IN_BACKGROUND}
    return Round(
        rate=len(some) / elapsed_s,
        p50_ms=1e3 * taken_s[len(some) // 2],
        p99_ms=1e3 * taken_s[int(0.99 * (len(some) - 1))],
        cpu_ms=1e3 * sum(used.values()) / len(some),
        asking_ms=1e3 * own_s / len(some),
    )


def _measurements(way: str, rounds: Mapping[str, tuple[Round, ...]]) -> Iterator[Measurement]:
    for field, unit, better in _FIELDS:
        name, bare = f"answers.{way}.{field}", f"answers.{way}.bare.{field}"
        samples = {who: tuple(getattr(each, field) for each in rounds[who]) for who in rounds}
        goal = _GOALS.get(f"{way}.{field}")
        yield Measurement(name, unit, samples["platform"], better, (bare,), goal)
        yield Measurement(bare, unit, samples["bare"], better)
    asking = tuple(each.asking_ms for each in rounds["platform"])
    yield Measurement(f"answers.{way}.asking", "CPU-ms/answer", asking, "lower")
