"""Questions to vectors by the embedder's replica, beside the same embedder in this process.

Asked by the gateway's client over the wire, so that the ingress, the token and the handle to the
replica are part of it: one question at a time, and 16 a call by two connections, as many as the
plane embeds together for callers' own use. No question is asked twice.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias
from uuid import uuid4

from planes.shared.clients.serving import Deadlines, ServingClient
from planes.shared.domain import TenantContext
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.telemetry import new_trace_id
from planes.shared.wire import EmbedRequest, ServingTokens
from services.embedded.home import Home
from tests.benchmarks.platform import running_platform
from tests.benchmarks.records import Conditions, Measurement, in_turns
from tests.e2e.conftest import RunningPlatform

_ALONE, _CALLS = 100, 60
_TEXTS, _CONNECTIONS = 16, 2
_MOST_TOKENS = 64
_FIELDS: tuple[tuple[str, str, Literal["higher", "lower"], float], ...] = (
    ("p50_ms", "ms", "lower", 4.0),
    ("rate", "questions/s", "higher", 500.0),
)
"""Of a round: unit, which way is better, and the goal."""

Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Round:
    """Questions one at a time, and several a call."""

    p50_ms: float
    rate: float


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure replica and bare embedder in turns; neither is pinned."""
    with running_platform() as platform, asyncio.Runner() as runner:
        client, embedder, context = _client(platform), MiniLMEmbedder(), _nobody()

        async def by_replica(texts: Sequence[str]) -> object:
            request = EmbedRequest(texts=tuple(texts), max_tokens=_MOST_TOKENS)
            return await client.embed(request, context, new_trace_id())

        async def bare(texts: Sequence[str]) -> object:
            return embedder.embed_questions(texts)

        runner.run(_open(client))
        questions = (
            f"Which code opens door {number}-{number * 7}?" for number in itertools.count()
        )
        works = {
            who: partial(_round, runner, embed, questions)
            for who, embed in (("replica", by_replica), ("bare", bare))
        }
        rounds = in_turns(conditions.rounds, works)
        runner.run(client.close())
    yield from _measurements(rounds)


def _measurements(rounds: Mapping[str, tuple[Round, ...]]) -> Iterator[Measurement]:
    for field, unit, better, goal in _FIELDS:
        name, bare = f"embedding.{field}", f"embedding.bare.{field}"
        samples = {who: tuple(getattr(each, field) for each in rounds[who]) for who in rounds}
        yield Measurement(name, unit, samples["replica"], better, (bare,), goal)
        yield Measurement(bare, unit, samples["bare"], better)


def _client(platform: RunningPlatform) -> ServingClient:
    """Return the gateway's client of the platform's serving plane."""
    secret = Home(platform.home).secrets()["serving_token_secret"]
    url = f"http://127.0.0.1:{platform.environment['SERVING_PORT']}"
    deadlines = Deadlines(headers_s=30, first_token_s=30, idle_s=30)
    return ServingClient(url, ServingTokens(secret), deadlines)


def _nobody() -> TenantContext:
    return TenantContext(uuid4(), uuid4())


async def _open(client: ServingClient) -> None:
    client.open()


def _round(runner: asyncio.Runner, embed: Embed, questions: Iterator[str]) -> Round:
    singly = [[question] for question in itertools.islice(questions, _ALONE)]
    calls = [list(itertools.islice(questions, _TEXTS)) for _ in range(_CALLS)]
    taken_s = runner.run(_asked(embed, singly, 1))
    started = time.perf_counter()
    runner.run(_asked(embed, calls, _CONNECTIONS))
    elapsed_s = time.perf_counter() - started
    return Round(1e3 * statistics.median(taken_s), _CALLS * _TEXTS / elapsed_s)


async def _asked(embed: Embed, calls: Sequence[Sequence[str]], connections: int) -> list[float]:
    """Ask every call once, so many at a time; return the seconds that each took."""
    waiting, taken_s = iter(calls), list[float]()

    async def ask() -> None:
        for texts in waiting:
            started = time.perf_counter()
            await embed(texts)
            taken_s.append(time.perf_counter() - started)

    await asyncio.gather(*(ask() for _ in range(connections)))
    return taken_s
