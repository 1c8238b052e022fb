"""Measure answers from documents: how soon they begin and end, and what they cost by process.

    POLYPLANE_HOME=… python -m tests.evaluation.answer_load http://127.0.0.1:8000

Each question is asked once by 1, 16 or 64 connections, and then once more, when the caches know it.
The asking program runs on the same machine and takes its share of the processors.
"""

import asyncio
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx
from httpx_sse import aconnect_sse

from services.cli.demo_client import DemoClient
from services.embedded.home import locate
from tests.benchmarks.cpu import NoPlatform, platform_cpu_s, used_s

_DOCUMENTS, _DOORS = 10, 40
_ROUNDS = ((1, 30), (16, 128), (64, 192))  # connections, questions
_PLAN = "enterprise"
_IN_BACKGROUND = {"dagster", "supervisor", "other"}  # no part of an answer


@dataclass(frozen=True, slots=True)
class Answered:
    """Seconds from the request to the first event, to the first text and to the last event.

    `refusals` is how often the platform answered that it is too busy, before it did not.
    """

    first_event_s: float
    first_text_s: float
    total_s: float
    is_cached: bool
    refusals: int


async def main(address: str) -> None:
    """Print two lines for each number of connections, and their cost."""
    home = locate().root
    with httpx.Client(base_url=address, timeout=60) as http:
        token, doors = library(DemoClient(http), http, os.environ)
    questions = (f"Which code opens door {door}?" for door in doors)
    for connections, count in _ROUNDS:
        some = list(itertools.islice(questions, count))
        for name in ("new", "again"):
            before, started = platform_cpu_s(home), time.monotonic()
            answers = await asked(address, token, some, connections)
            elapsed_s = time.monotonic() - started
            _print(f"{connections} connections, {name}", answers, elapsed_s)
            _print_cost(used_s(before, platform_cpu_s(home)), count)


def library(
    client: DemoClient, http: httpx.Client, environment: Mapping[str, str]
) -> tuple[str, Iterator[str]]:
    """Make a tenant of a large plan with documents; return its user's token, and all doors.

    The environment is that of the platform's commands.
    """
    client.register()
    tenant = http.get("/auth/me").json()["tenant"]["id"]
    command = [
        sys.executable,
        "-m",
        "services.cli",
        "admin",
        "set-plan",
        "--tenant",
        tenant,
        "--plan",
        _PLAN,
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    mark = f"{time.time_ns() % 10**6}"
    doors = [[f"{mark}-{a}-{b}" for b in range(_DOORS)] for a in range(_DOCUMENTS)]
    ids = [
        client.upload(f"doors-{number}.txt", text_of(some).encode())
        for number, some in enumerate(doors)
    ]
    while any(client.document(one)["status"] != "ready" for one in ids):
        time.sleep(0.5)
    token = http.headers["authorization"]
    return token, itertools.chain.from_iterable(doors)


def text_of(doors: Sequence[str]) -> str:
    """Return a document: a paragraph of three sentences about each door."""
    return "\n\n".join(
        f"Door {door} opens with the code {abs(hash(door)) % 10**6}. Its key hangs in the hall, "
        "beside the plan of the building. Nobody may copy it without asking the caretaker first."
        for door in doors
    )


async def asked(
    address: str, token: str, questions: Sequence[str], connections: int
) -> list[Answered]:
    """Ask every question once, by so many connections at a time."""
    waiting = iter(questions)

    async def ask_on(http: httpx.AsyncClient) -> list[Answered]:
        return [await _ask(http, question) for question in waiting]

    limits = httpx.Limits(max_connections=connections)
    headers = {"authorization": token}
    async with httpx.AsyncClient(
        base_url=address, headers=headers, limits=limits, timeout=120
    ) as http:
        answered = await asyncio.gather(*(ask_on(http) for _ in range(connections)))
    return [answer for some in answered for answer in some]


async def _ask(http: httpx.AsyncClient, question: str) -> Answered:
    """Ask until it is answered, and read to the end."""
    for refusals in itertools.count():
        answered = await _ask_once(http, question, refusals)
        if isinstance(answered, Answered):
            return answered
        await asyncio.sleep(answered)
    raise AssertionError  # it counts for ever


async def _ask_once(http: httpx.AsyncClient, question: str, refusals: int) -> Answered | float:
    """Return the answer, or the seconds to wait where the platform is busy.

    Raises:
        SystemExit: Something else was wrong.
    """
    started, times, is_cached, last = time.monotonic(), dict[str, float](), False, ""
    body = {"message": question, "stream": True}
    async with aconnect_sse(http, "POST", "/chat", json=body) as source:
        if source.response.status_code in {429, 503}:
            return float(source.response.headers["retry-after"])
        if source.response.status_code != 200:
            await source.response.aread()
            raise SystemExit(source.response.text)
        async for event in source.aiter_sse():
            times.setdefault(event.event, time.monotonic() - started)
            is_cached = is_cached or (event.event == "step" and '"cache"' in event.data)
            last = event.data
    if "done" not in times:
        raise SystemExit(f"no answer to {question!r}: {list(times)}, at last {last}")
    return Answered(times["meta"], times["delta"], times["done"], is_cached, refusals)


def _print(name: str, answers: Sequence[Answered], elapsed_s: float) -> None:
    cached = sum(answer.is_cached for answer in answers)
    refused = sum(answer.refusals for answer in answers)
    print(
        f"{name}: {len(answers) / elapsed_s:.1f} answers/s, {cached} of {len(answers)} cached, "
        f"{refused} refusals"
    )
    for field in ("first_event_s", "first_text_s", "total_s"):
        values = sorted(getattr(answer, field) * 1000 for answer in answers)
        last = values[int(0.95 * (len(values) - 1))]
        print(f"  {field[:-2]:12} median {statistics.median(values):7.1f} ms, p95 {last:7.1f} ms")


def _print_cost(used: dict[str, float], answers: int) -> None:
    cost = {kind: s * 1000 / answers for kind, s in used.items() if kind not in _IN_BACKGROUND}
    told = ", ".join(f"{kind} {ms:.1f}" for kind, ms in cost.items())
    print(f"  CPU-ms an answer: {sum(cost.values()):.1f} ({told})")


if __name__ == "__main__":
    try:
        asyncio.run(main(sys.argv[1]))
    except NoPlatform as error:
        sys.exit(f"{error}: set POLYPLANE_HOME to the folder of one that does")
