"""What a client may do to a connection, over real sockets and a small application."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.gateway.admin.drain import Drain
from services.gateway.connections import ConnectionLimits
from services.gateway.listening import listening_sockets
from services.gateway.server import Ending, PublicServer

_MOST = 8
_GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


@dataclass
class Served:
    """A server of these tests."""

    port: int
    holds: asyncio.Event
    held: int = 0
    connections: set[Any] = field(default_factory=set)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer_to(self, request: bytes) -> bytes:
        """Send bytes and return all that comes back until the server closes."""
        reader, writer = await self.connect()
        return await self._exchange(reader, writer, request)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> bytes:
        writer.write(request)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    [listener] = listening_sockets("127.0.0.1", 0)
    served = Served(listener.getsockname()[1], asyncio.Event())

    async def root(request: Request) -> Response:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    async def hold(_: Request) -> Response:
        served.held += 1
        await served.holds.wait()
        return PlainTextResponse("held")

    async def refuse(_: Request) -> Response:
        return PlainTextResponse("no", 401)

    app = Starlette(
        routes=[
            Route("/", root, methods=["GET", "POST"]),
            Route("/hold", hold),
            Route("/refuse", refuse, methods=["POST"]),
        ]
    )
    config = uvicorn.Config(app, log_config=None, proxy_headers=False, ws="none", lifespan="off")
    ending = Ending(drain=Drain(), drain_s=0, shutdown_s=0.1, end_answers=lambda: None)
    server = PublicServer(config, ending, ConnectionLimits(most=_MOST, head_s=1))
    served.connections = server.server_state.connections
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await server.is_running.wait()
    yield served
    served.holds.set()
    server.should_exit = True
    await task


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def problem_of(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    problem: dict[str, object] = json.loads(body)
    assert problem["trace_id"]
    return problem


async def sends_until_closed(
    writer: asyncio.StreamWriter, piece: bytes, *, pause_s: float = 0
) -> None:
    """Send the same again and again until the server has had enough."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
    writer.close()


async def test_a_connection_serves_many_requests(served: Served) -> None:
    reader, writer = await served.connect()
    for size in (0, 10, 400_000):
        post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size
        writer.write(post + b"x" * size)
        assert b" 200 " in await reader.readline()
        await reader.readuntil(b"%d bytes" % size)
    answer = await served._exchange(reader, writer, _GET + b"connection: close\r\n\r\n")
    assert status_of(answer) == 200


async def test_pipelined_requests_are_answered_in_order(served: Served) -> None:
    body = b"x" * 100_000
    post = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
    last = _GET + b"connection: close\r\n\r\n"
    answer = await served.answer_to(_GET + b"\r\n" + post + body + last)
    assert answer.index(b"0 bytes") < answer.index(b"100000 bytes") < answer.rindex(b"0 bytes")
    assert answer.count(b" 200 OK") == 3


@pytest.mark.parametrize("fields", [b"a: " + b"x" * 40_000, b"\r\n".join([b"a: b"] * 8_000)])
@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
async def test_a_large_head_is_refused_whole_or_not(
    served: Served, fields: bytes, end: bytes
) -> None:
    answer = await served.answer_to(_GET + fields + end)
    assert status_of(answer) == 431
    assert problem_of(answer)["title"] == "Request header fields too large"


async def test_a_head_just_below_the_limit_is_served(served: Served) -> None:
    answer = await served.answer_to(
        _GET + b"connection: close\r\na: " + b"x" * 32_000 + b"\r\n\r\n"
    )
    assert status_of(answer) == 200


async def test_a_long_request_line_is_refused(served: Served) -> None:
    answer = await served.answer_to(b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
    assert status_of(answer) == 414
    assert "request line" in str(problem_of(answer)["detail"])


async def test_an_endless_header_costs_the_server_nothing(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(_GET + b"a: ")
    await sends_until_closed(writer, b"x" * 65_536)
    assert status_of(await served.answer_to(_GET + b"connection: close\r\n\r\n")) == 200


@pytest.mark.parametrize("what", [b"1;" + b"x" * 600_000, b"0\r\na: " + b"x" * 600_000])
async def test_what_a_body_brings_beside_its_content_is_bounded(
    served: Served, what: bytes
) -> None:
    head = b"POST /hold HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    reader, writer = await served.connect()
    writer.write(head + b"1\r\nx")
    writer.write(b"\r\n" + what)
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(20):
            assert await reader.read() == b""
    writer.close()


async def test_what_is_no_http_is_a_problem(served: Served) -> None:
    answer = await served.answer_to(b"hello there\r\n\r\n")
    assert status_of(answer) == 400
    assert problem_of(answer)["type"] == "urn:polyplane:problem:bad-request"


async def test_a_head_that_does_not_end_is_refused(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(_GET)

    async def trickle() -> None:
        while True:
            await asyncio.sleep(0.2)
            writer.write(b"a: b\r\n")

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(20):
        answer = await reader.read()
    trickling.cancel()
    assert status_of(answer) == 408
    assert "took too long" in str(problem_of(answer)["detail"])
    writer.close()


async def test_a_connection_that_never_asks_is_closed_without_a_word(served: Served) -> None:
    assert await served.answer_to(b"") == b""


async def test_idle_time_between_requests_is_not_that_of_a_head(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(_GET + b"\r\n")
    await reader.readuntil(b"0 bytes")
    assert await served.answer_to(_GET) != b""  # this one's deadline has passed meanwhile
    answer = await served._exchange(reader, writer, _GET + b"connection: close\r\n\r\n")
    assert status_of(answer) == 200


async def test_the_rest_of_a_refused_body_is_not_read_for_ever(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n")
    await reader.readuntil(b"no")
    await sends_until_closed(writer, b"x", pause_s=0.1)


async def test_half_open_connections_make_room(served: Served) -> None:
    silent = [await served.connect() for _ in range(5 * _MOST)]
    for _, writer in silent:
        writer.write(_GET)
    answer = await served.answer_to(_GET + b"connection: close\r\n\r\n")
    assert status_of(answer) == 200
    for _, writer in silent:
        writer.close()


async def test_when_all_connections_are_served_one_more_is_told_so(served: Served) -> None:
    busy = [await served.connect() for _ in range(_MOST)]
    for _, writer in busy:
        writer.write(b"GET /hold HTTP/1.1\r\nhost: x\r\n\r\n")
    while served.held < _MOST:
        await asyncio.sleep(0.01)
    answer = await served.answer_to(_GET + b"\r\n")
    assert status_of(answer) == 503
    assert b"retry-after: 2\r\n" in answer
    assert "in use" in str(problem_of(answer)["detail"])
    served.holds.set()
    for reader, writer in busy:
        await reader.readuntil(b"held")
        writer.close()
    assert status_of(await served.answer_to(_GET + b"connection: close\r\n\r\n")) == 200


@pytest.mark.parametrize("close", ["shutdown", "timeout_keep_alive_handler"])
async def test_a_connection_does_not_close_under_a_request_that_has_arrived(
    served: Served, close: str
) -> None:
    loop = asyncio.get_running_loop()

    async def answered(client: socket.socket) -> None:
        received = b""
        async with asyncio.timeout(20):
            while not received.endswith(b"0 bytes"):
                more = await loop.sock_recv(client, 4096)
                assert more, "closed"
                received += more

    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, _GET + b"\r\n")
        await answered(client)
        client.send(_GET + b"\r\n")
        for connection in list(served.connections):  # before the loop has looked again
            getattr(connection, close)()
        await answered(client)
