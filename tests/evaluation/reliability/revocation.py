"""How long an ended session still works, on every process and in streams that are open."""

import asyncio
import contextlib
import time

import httpx

from tests.evaluation.reliability.target import Target, question, row, spread
from tests.servers.traffic import register

_ROUNDS = 20
_CLIENTS = 8


async def revocation(target: Target) -> None:
    """Sign out over one connection; watch the others, and a stream, until they are refused."""
    requests, streams = [], []
    async with target.free_plan(requests_per_minute=100_000, chat_requests_per_minute=10_000):
        for _ in range(_ROUNDS):
            request_s, stream_s = await _round(target)
            requests.append(request_s)
            streams.append(stream_s)
    row(f"logout until the last of {_CLIENTS} connections is refused", spread(requests))
    row("logout until an open stream ends", spread(streams))


async def _round(target: Target) -> tuple[float, float]:
    visitor = await register(target.base_url)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(visitor.http.aclose)
        https = [await stack.enter_async_context(target.client(visitor)) for _ in range(_CLIENTS)]
        await asyncio.gather(*(http.get("/auth/me") for http in https))
        open_stream = asyncio.Event()
        stream = asyncio.create_task(_stream_end(https[0], open_stream))
        await open_stream.wait()
        watching = [asyncio.create_task(_first_refusal(http)) for http in https]
        await asyncio.sleep(0.2)
        started = time.monotonic()
        assert (await visitor.http.post("/auth/logout", json={})).status_code == 204
        refusals = await asyncio.gather(*watching)
        return max(refusals) - started, await stream - started


async def _first_refusal(http: httpx.AsyncClient) -> float:
    while (await http.get("/auth/me")).status_code == 200:
        await asyncio.sleep(0.01)
    return time.monotonic()


async def _stream_end(http: httpx.AsyncClient, is_open: asyncio.Event) -> float:
    body = {**question(200, 50), "stream": True}
    async with http.stream("POST", "/chat", json=body) as response:
        assert response.status_code == 200, await response.aread()
        async for line in response.aiter_lines():
            if line.startswith("event: delta"):
                is_open.set()
    return time.monotonic()
