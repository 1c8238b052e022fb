"""Which requests have one deadline for everything."""

import asyncio
import math

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from planes.shared.deadlines import seconds_left
from services.gateway.plain_deadline import PlainDeadlineMiddleware


async def tell(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer with what is left to the request and to a task that it starts."""

    async def later() -> float:
        return seconds_left()

    body = f"{seconds_left()} {await asyncio.create_task(later())}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize(
    ("method", "path", "is_bound"),
    [
        ("POST", "/auth/refresh", True),
        ("POST", "/api/v1/auth/logout", True),
        ("GET", "/billing/usage", True),
        ("GET", "/documents", True),
        ("DELETE", "/tenant/members/1", True),
        ("POST", "/chat", False),
        ("POST", "/api/v1/conversations/1/messages", False),
        ("POST", "/documents", False),
        ("POST", "/search", False),
        ("POST", "/billing/webhook", False),
        ("GET", "/auth/oidc/callback", False),
        ("GET", "/tenant/export", False),
        ("GET", "/auth/me/export", False),
    ],
)
async def test_plain_requests_are_bound_and_what_they_start_is_not(
    method: str, path: str, is_bound: bool
) -> None:
    transport = httpx.ASGITransport(PlainDeadlineMiddleware(tell, seconds=8))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as http:
        own, others = map(float, (await http.request(method, path)).text.split())
    assert (0 < own <= 8) == is_bound
    assert others == math.inf
    assert seconds_left() == math.inf
