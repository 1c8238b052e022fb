"""What a second process of each kind gives: gateways on one port, replicas of the serving plane.

One and two take turns. The gateways share the measured cores, so that a second one can give as much
as there are cores for it: with fewer than two of them both use all cores, beside the load. The
replicas are of the ingress and of the embedder, in two platforms that are not pinned; at rest the
other one takes little.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import httpx
import psutil

from services.cli.demo_client import DemoClient
from tests.benchmarks.answers import (
    MOST_ROUNDS,
    UNCACHED,
    Round,
    ask_platform,
    one_round,
    questions_about,
)
from tests.benchmarks.cpu import platform_cpu_s
from tests.benchmarks.gateway.ladder import CHAT, CONNECTIONS, CONVERSATIONS, PEOPLE, check
from tests.benchmarks.gateway.world import askers, cpu_s, served_together, world
from tests.benchmarks.gateway.wrk import Load, drive, write_asks
from tests.benchmarks.pinning import Cores
from tests.benchmarks.platform import running_platform
from tests.benchmarks.records import Conditions, Measurement, in_turns
from tests.evaluation.answer_load import library

_COUNTS = {"one": 1, "two": 2}
_SECONDS = 6
_PRODUCT = "services.gateway"


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Measure gateways, then replicas."""
    yield from _gateways(conditions)
    yield from _replicas(conditions)


def room_for_two(cores: Cores) -> Cores:
    """Return cores of which two processes can be measured on one each, where there are two."""
    return cores if len(cores.measured) > 1 else replace(cores, measured=cores.all)


def compared(
    name: str, rates: Mapping[str, tuple[float, ...]], cpu: Mapping[str, tuple[float, ...]]
) -> Iterator[Measurement]:
    """Yield rates, processor time, and how much two give of one, round by round."""
    for count, samples in rates.items():
        yield Measurement(f"{name}.{count}.rate", "requests/s", samples, "higher")
        yield Measurement(f"{name}.{count}.cpu", "CPU-ms/request", cpu[count], "lower")
    ratios = tuple(two / one for one, two in zip(rates["one"], rates["two"], strict=True))
    yield Measurement(f"{name}.two_of_one", "x", ratios, "higher")


def _gateways(conditions: Conditions) -> Iterator[Measurement]:
    with world(room_for_two(conditions.cores)) as running, ExitStack() as stack:
        servers = {
            name: stack.enter_context(served_together(running, _PRODUCT, count))
            for name, count in _COUNTS.items()
        }
        people = askers(servers["one"][0], people=PEOPLE, conversations=CONVERSATIONS)
        asks = write_asks(running.folder, "chat", CHAT(people))

        def run(url: str, processes: list[psutil.Process]) -> tuple[Load, float]:
            before = sum(cpu_s(each.pid) for each in processes)
            load = drive(url, asks, connections=CONNECTIONS, seconds=_SECONDS)
            check("scaling", [load])
            spent = sum(cpu_s(each.pid) for each in processes) - before
            return load, 1e3 * spent / load.requests

        works = {name: partial(run, *server) for name, server in servers.items()}
        found = in_turns(conditions.rounds, works)
    rates = {name: tuple(load.requests_per_s for load, _ in runs) for name, runs in found.items()}
    cpu = {name: tuple(ms for _, ms in runs) for name, runs in found.items()}
    yield from compared("scaling.gateways", rates, cpu)


def _replicas(conditions: Conditions) -> Iterator[Measurement]:
    with ExitStack() as stack, asyncio.Runner() as runner:
        works = {name: _asking(stack, runner, str(count)) for name, count in _COUNTS.items()}
        found = in_turns(min(conditions.rounds, MOST_ROUNDS), works)
    rates = {name: tuple(each.rate for each in rounds) for name, rounds in found.items()}
    cpu = {name: tuple(each.cpu_ms for each in rounds) for name, rounds in found.items()}
    yield from compared("scaling.replicas", rates, cpu)


def _asking(stack: ExitStack, runner: asyncio.Runner, replicas: str) -> Callable[[], Round]:
    """Start a platform with documents; return what asks it a round of questions."""
    settings = {"SERVING_INGRESS_REPLICAS": replicas, "SERVING_EMBEDDER_REPLICAS": replicas}
    platform = stack.enter_context(running_platform(**UNCACHED, **settings))
    with httpx.Client(base_url=platform.base_url, timeout=120) as http:
        token, doors = library(DemoClient(http), http, platform.environment)
    ask = partial(ask_platform, platform.base_url, token)
    cpu = partial(platform_cpu_s, platform.home)
    return partial(one_round, runner, "many", ask, cpu, questions_about(list(doors)))
