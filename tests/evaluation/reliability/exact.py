"""Limits, quotas and refresh tokens under requests that come at once over several processes."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from tests.evaluation.reliability.target import Target, question, row, spread
from tests.servers.traffic import Visitor, register

_ROUNDS = 5
_CLIENTS = 20
Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]


async def limits(target: Target) -> None:
    """5N requests at once, where N a minute are allowed; the rest get 429."""
    for limit in (20, 100):
        seen = []
        async with target.free_plan(requests_per_minute=limit):
            for _ in range(_ROUNDS):
                visitor = await register(target.base_url)
                statuses, taken_s = await _at_once(
                    target, visitor, 5 * limit, lambda http: http.get("/auth/me")
                )
                seen.append(_admitted(statuses, taken_s, limit))
        row(f"{5 * limit} requests at once, {limit} a minute allowed", "; ".join(seen))


def _admitted(statuses: Counter[int], taken_s: float, limit: int) -> str:
    assert set(statuses) <= {200, 429}, statuses
    refilled = int(taken_s * limit / 60)
    more = f" ({refilled} came free in {taken_s:.1f} s)" if refilled else ""
    return f"{statuses[200]} through{more}"


async def quota(target: Target) -> None:
    """200 questions at once, where 100 are left."""
    seen = []
    limits = {"messages_per_month": 100, "chat_requests_per_minute": 10_000}
    async with target.free_plan(**limits, requests_per_minute=10_000, tokens_per_month=None):
        for _ in range(_ROUNDS):
            visitor = await register(target.base_url)
            statuses, _ = await _at_once(
                target, visitor, 200, lambda http: _ask_until_told(http), clients=50
            )
            usage = (await visitor.http.get("/billing/usage")).json()
            billed, used = usage["totals"]["messages"], usage["quotas"]["messages"]["used"]
            seen.append(f"{statuses[200]} served, {statuses[402]} refused, {billed}={used} billed")
            assert statuses.total() == statuses[200] + statuses[402], statuses
    row("200 questions at once, quota 100", "; ".join(seen))


async def _ask_until_told(http: httpx.AsyncClient) -> httpx.Response:
    """Ask, and ask again where the answer is `busy`: a client's own patience."""
    while True:
        answer = await http.post("/chat", json=question(3, 0))
        if answer.status_code not in (429, 503):
            return answer
        await asyncio.sleep(0.5)


async def overload(target: Target) -> None:
    """500 questions at once, of five people, and what others notice meanwhile."""
    seen, waits = Counter[int](), []
    bounds = {"requests_per_minute": 100_000, "chat_requests_per_minute": 10_000}
    async with target.free_plan(**bounds, messages_per_month=None, tokens_per_month=None):
        visitors = [await register(target.base_url) for _ in range(6)]
        quiet = [await _timed(visitors[-1].http) for _ in range(20)]
        asking = asyncio.gather(
            *(
                _at_once(target, each, 100, lambda http: http.post("/chat", json=question(3, 0)))
                for each in visitors[:-1]
            )
        )
        while not asking.done():
            waits.append(await _timed(visitors[-1].http))
        started = time.monotonic()
        for statuses, _ in await asking:
            seen += statuses
        after = await _timed(visitors[-1].http)
        for each in visitors:
            await each.http.aclose()
    row("500 questions at once: answers", ", ".join(f"{n} {s}" for s, n in sorted(seen.items())))
    row("GET /auth/me before", spread(quiet))
    row("GET /auth/me meanwhile", spread(waits))
    row("GET /auth/me at once after", f"{after * 1000:.0f} ms ({time.monotonic() - started:.1f} s)")


async def _timed(http: httpx.AsyncClient) -> float:
    started = time.monotonic()
    answer = await http.get("/auth/me")
    assert answer.status_code == 200, answer.text
    return time.monotonic() - started


async def refresh(target: Target) -> None:
    """One refresh token, presented by 50 at once."""
    seen = []
    for _ in range(_ROUNDS):
        visitor = await register(target.base_url)
        body = {"refresh_token": visitor.refresh_token}
        successors: set[str] = set()

        async def present(http: httpx.AsyncClient, body: dict[str, str] = body) -> httpx.Response:
            answer = await http.post("/auth/refresh", json=body)
            if answer.status_code == 200:
                successors.add(answer.json()["refresh_token"])  # noqa: B023 - awaited in this round
            return answer

        statuses, _ = await _at_once(target, visitor, 50, present)
        seen.append(f"{statuses[200]} answers, {len(successors)} successor")
        await visitor.http.aclose()
    row("50 refreshes of one token at once", "; ".join(seen))


async def _at_once(
    target: Target, visitor: Visitor, count: int, ask: Ask, *, clients: int = _CLIENTS
) -> tuple[Counter[int], float]:
    """Make requests over many connections, which the kernel spreads over the processes."""
    https = [target.client(visitor) for _ in range(clients)]
    await asyncio.gather(*(http.get("/health/live") for http in https))
    started = time.monotonic()
    answers = await asyncio.gather(*(ask(https[number % clients]) for number in range(count)))
    taken_s = time.monotonic() - started
    await asyncio.gather(*(http.aclose() for http in https))
    return Counter(answer.status_code for answer in answers), taken_s
