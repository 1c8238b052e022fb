"""Measure `GET /auth/me` with and without a storm of sign-ins.

    python -m tests.evaluation.login_storm http://127.0.0.1:8000

Every account signs in from an address of its own, so that no throttle ends the storm: the gateway
must trust this machine as a proxy (GATEWAY_TRUSTED_PROXIES=127.0.0.1/32). The storm is a process of
its own, at low priority: its callers would sit on other machines. It takes two minutes.
"""

import asyncio
import multiprocessing
import os
import secrets
import statistics
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

import httpx

_ACCOUNTS = 24
_ROUNDS = 6
_NICENESS = 19
_REQUESTS = 300
_PER_SECOND = 40
_PASSWORD = secrets.token_urlsafe(24)


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds that requests took without sign-ins, and then in a storm of them."""

    calm_s: list[float]
    stormy_s: list[float]


async def turns(address: str, number: int) -> AsyncIterator[Turn]:
    """Yield so many turns, about 20 s each."""
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        emails = [f"storm-{secrets.token_hex(8)}@example.com" for _ in range(_ACCOUNTS)]
        tokens = [await _register(http, email) for email in emails]
        await _latencies(http, tokens, _REQUESTS)  # warm
        for _ in range(number):
            calm_s = await _latencies(http, tokens, _REQUESTS)
            storm = _storm(address, emails)
            await asyncio.sleep(2)
            stormy_s = await _latencies(http, tokens, _REQUESTS)
            storm.terminate()
            storm.join()
            await asyncio.sleep(2)
            yield Turn(calm_s, stormy_s)


async def _measure(address: str) -> None:
    """Print the 99th percentiles of all turns, and their ratio."""
    measured = [turn async for turn in turns(address, _ROUNDS)]
    calm = [each for turn in measured for each in turn.calm_s]
    stormy = [each for turn in measured for each in turn.stormy_s]
    _print("without sign-ins", calm)
    _print("in the storm", stormy)
    print(f"ratio of the 99th percentiles: {p99(stormy) / p99(calm):.2f}")


async def _register(http: httpx.AsyncClient, email: str) -> str:
    body = {"email": email, "password": _PASSWORD}
    answer = await http.post("/auth/register", json=body, headers=_from_somewhere())
    answer.raise_for_status()
    return str(answer.json()["access_token"])


async def _latencies(http: httpx.AsyncClient, tokens: list[str], number: int) -> list[float]:
    """Ask at a steady pace, whatever the answers take; return how long each took from its time."""

    async def ask(at: float, token: str) -> float:
        await asyncio.sleep(at - time.monotonic())
        answer = await http.get("/auth/me", headers={"authorization": f"Bearer {token}"})
        if answer.status_code != 200:
            raise RuntimeError(answer.text)
        return time.monotonic() - at

    begin = time.monotonic() + 0.5
    asked = (ask(begin + each / _PER_SECOND, tokens[each % len(tokens)]) for each in range(number))
    return list(await asyncio.gather(*asked))


def _storm(address: str, emails: list[str]) -> BaseProcess:
    storm = multiprocessing.get_context("spawn").Process(
        target=_sign_in_for_ever, args=(address, emails, _PASSWORD), daemon=True
    )
    storm.start()
    return storm


def _sign_in_for_ever(address: str, emails: list[str], password: str) -> None:
    async def one(http: httpx.AsyncClient, email: str) -> None:
        while True:
            body = {"email": email, "password": password}
            await http.post("/auth/login", json=body, headers=_from_somewhere())

    os.nice(_NICENESS)

    async def all_of_them() -> None:
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            await asyncio.gather(*(one(http, email) for email in emails))

    asyncio.run(all_of_them())


def _from_somewhere() -> dict[str, str]:
    return {"x-forwarded-for": f"2001:db8:{secrets.token_hex(2)}:{secrets.token_hex(2)}::1"}


def p99(seconds: list[float]) -> float:
    """Return the 99th percentile."""
    return statistics.quantiles(seconds, n=100)[98]


def _print(name: str, seconds: list[float]) -> None:
    median_ms, p99_ms = 1000 * statistics.median(seconds), 1000 * p99(seconds)
    print(f"GET /auth/me {name}: median {median_ms:.1f} ms, p99 {p99_ms:.1f} ms of {len(seconds)}")


if __name__ == "__main__":
    asyncio.run(_measure(sys.argv[1]))
