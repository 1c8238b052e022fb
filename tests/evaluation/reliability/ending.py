"""A gateway process that ends, by SIGTERM or by SIGKILL, in the middle of the work."""

import asyncio
import os
import signal
import time
from collections import Counter

import httpx
import psutil

from tests.evaluation.reliability.target import Target, question, row
from tests.servers.traffic import Visitor, register

_REQUESTS_A_SECOND = 50
_STREAMS = 20
BOUNDLESS = {
    "requests_per_minute": 100_000,
    "chat_requests_per_minute": 10_000,
    "messages_per_month": None,
    "tokens_per_month": None,
}


async def sigterm(target: Target) -> None:
    """SIGTERM of one process under 50 requests a second and 20 streams."""
    async with target.free_plan(**BOUNDLESS):
        visitor = await register(target.base_url)
        streams = [
            asyncio.create_task(_stream(target, visitor, words=60, pause_ms=100))
            for _ in range(_STREAMS)
        ]
        await asyncio.sleep(1)
        stop = asyncio.Event()
        requests = asyncio.create_task(_steadily(target, visitor, stop))
        await asyncio.sleep(2)
        process = psutil.Process(target.part(target.gateways()[-1]).pid)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 60)
        ended_s = time.monotonic() - started
        await asyncio.sleep(2)
        stop.set()
        answers, ends = await requests, Counter(await asyncio.gather(*streams))
    row(f"SIGTERM under {_REQUESTS_A_SECOND} requests/s: answers", _words(answers))
    row(f"the same: ends of {_STREAMS} streams", _words(ends))
    row("the same: until the process is gone", f"{ended_s:.1f} s")


async def kill(target: Target) -> None:
    """SIGKILL of one process with streams open, until all is settled."""
    async with target.free_plan(**BOUNDLESS):
        visitor = await register(target.base_url)
        streams = [
            asyncio.create_task(_stream(target, visitor, words=120, pause_ms=100))
            for _ in range(_STREAMS)
        ]
        await asyncio.sleep(5)  # so that checkpoints are there
        pid = target.part(target.gateways()[-1]).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        ends = Counter(await asyncio.gather(*streams))
        while await target.sql("SELECT FROM reservations WHERE tenant_id = $1", visitor.tenant_id):
            await asyncio.sleep(0.5)
        settled_s = time.monotonic() - started
        usage = (await visitor.http.get("/billing/usage")).json()
    quotas, totals = usage["quotas"], usage["totals"]
    is_exact = (quotas["messages"]["used"], quotas["tokens"]["used"]) == (
        totals["messages"],
        totals["total_tokens"],
    )
    row(f"kill -9 with {_STREAMS} streams: how they end", _words(ends))
    row("the same: until nothing is reserved any more", f"{settled_s:.0f} s")
    row("the same: messages billed; quota equals ledger", f"{totals['messages']}; {is_exact}")


async def _steadily(target: Target, visitor: Visitor, stop: asyncio.Event) -> Counter[str]:
    """Make requests at a fixed rate: half over connections of their own, half over kept ones."""
    answers: Counter[str] = Counter()
    tasks: set[asyncio.Task[None]] = set()
    number, started = 0, time.monotonic()
    while not stop.is_set():
        number += 1
        tasks.add(asyncio.create_task(_request(target, visitor, answers, is_kept=number % 2 == 0)))
        await asyncio.sleep(started + number / _REQUESTS_A_SECOND - time.monotonic())
    await asyncio.gather(*tasks)
    return answers


async def _request(
    target: Target, visitor: Visitor, answers: Counter[str], *, is_kept: bool
) -> None:
    try:
        if is_kept:
            answer = await visitor.http.get("/auth/me")
        else:
            async with target.client(visitor) as http:
                answer = await http.get("/auth/me")
        answers[str(answer.status_code)] += 1
    except httpx.HTTPError as error:
        answers[f"{type(error).__name__} on a {'kept' if is_kept else 'new'} connection"] += 1


async def _stream(target: Target, visitor: Visitor, *, words: int, pause_ms: int) -> str:
    """Return how a stream ended."""
    last = "nothing"
    async with target.client(visitor) as http:
        try:
            body = {**question(words, pause_ms), "stream": True}
            async with http.stream("POST", "/chat", json=body) as response:
                if response.status_code != 200:
                    return str(response.status_code)
                async for line in response.aiter_lines():
                    last = line.removeprefix("event: ") if line.startswith("event: ") else last
        except httpx.HTTPError as error:
            return f"{type(error).__name__} after {last}"
    return last


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.most_common())
