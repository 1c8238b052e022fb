"""Connections are kept where an answer has ended, and only there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from planes.shared.clients.kept_connections import BrokenOff, Connection, KeptConnections

_HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"


class _Server:
    """Answers each request as its script says; counts connections and what was asked."""

    def __init__(self, *scripts: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.scripts = list(scripts)
        self.asked: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.asked.append(head + await reader.readexactly(length))
                await self.scripts.pop(0)(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def _served(server: _Server) -> AsyncIterator[KeptConnections]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    connections = KeptConnections(f"http://127.0.0.1:{port}/above")
    try:
        yield connections
    finally:
        connections.close()
        listening.close()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _whole(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + _chunk(b"one") + _chunk(b"two") + _END)


async def _endless(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + _chunk(b"one"))


async def _silent(_: asyncio.StreamWriter) -> None:
    return


async def _closing(writer: asyncio.StreamWriter) -> None:
    writer.close()


async def _post(connections: KeptConnections, *, within_s: float = 5) -> Connection:
    return await connections.post("/it", "x-a: b\r\n", b"body", within_s=within_s)


async def test_what_came_together_is_read_together_and_its_connection_is_used_again() -> None:
    server = _Server(_whole, _whole)
    async with _served(server) as connections:
        for _ in range(2):
            connection = await _post(connections)
            assert (connection.status, await connection.read()) == (200, b"onetwo")
            assert await connection.read() == b""
            connection.leave(is_whole=True)
    assert server.connections == 1
    assert server.asked[0].startswith(b"POST /above/it HTTP/1.1\r\nhost: 127.0.0.1:")
    assert server.asked[0].endswith(b"\r\ncontent-length: 4\r\nx-a: b\r\n\r\nbody")


async def test_an_answer_that_is_left_in_the_middle_closes_its_connection() -> None:
    server = _Server(_endless, _whole)
    async with _served(server) as connections:
        connection = await _post(connections)
        assert await connection.read() == b"one"
        connection.leave(is_whole=False)
        assert await (await _post(connections)).read() == b"onetwo"
    assert server.connections == 2


async def test_an_answer_whose_end_is_on_its_way_keeps_its_connection() -> None:
    end = asyncio.Event()

    async def ends_later(writer: asyncio.StreamWriter) -> None:
        writer.write(_HEAD + _chunk(b"one"))
        await end.wait()
        writer.write(_END)

    server = _Server(ends_later, _whole)
    async with _served(server) as connections:
        connection = await _post(connections)
        await connection.read()
        connection.leave(is_whole=True)
        end.set()
        await asyncio.sleep(0.05)
        await _post(connections)
    assert server.connections == 1


async def test_a_kept_connection_that_the_server_closes_is_replaced() -> None:
    server = _Server(_whole, _closing, _whole)
    async with _served(server) as connections:
        connection = await _post(connections)
        await connection.read()
        connection.leave(is_whole=True)
        assert await (await _post(connections)).read() == b"onetwo"
    assert (server.connections, len(server.asked)) == (2, 3)


async def test_a_new_connection_that_breaks_is_told() -> None:
    async with _served(_Server(_closing)) as connections:
        with pytest.raises(BrokenOff):
            await _post(connections)


async def test_nobody_who_listens_is_told() -> None:
    with pytest.raises(BrokenOff):
        await _post(KeptConnections("http://127.0.0.1:9"))


async def test_what_is_no_http_is_told() -> None:
    async def nonsense(writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n\r\n")

    async with _served(_Server(nonsense)) as connections:
        with pytest.raises(BrokenOff):
            await _post(connections)


async def test_the_head_and_each_part_have_a_deadline() -> None:
    async with _served(_Server(_silent)) as connections:
        with pytest.raises(TimeoutError):
            await _post(connections, within_s=0.05)
    async with _served(_Server(_endless)) as connections:
        connection = await _post(connections, within_s=5)
        connection.put_off(0.05)
        assert await connection.read() == b"one"
        with pytest.raises(TimeoutError):
            await connection.read()


async def _whole_and_another(writer: asyncio.StreamWriter) -> None:
    writer.write(_HEAD + _chunk(b"one") + _END + _HEAD + _chunk(b"of somebody else") + _END)


@pytest.mark.parametrize("pause_s", [0, 0.05])
async def test_an_answer_that_nobody_asked_for_is_nobodys(pause_s: float) -> None:
    async def unasked(writer: asyncio.StreamWriter) -> None:
        await _whole(writer)
        await asyncio.sleep(pause_s)
        writer.write(_HEAD + _chunk(b"of somebody else") + _END)

    server = _Server(unasked, _whole, _whole)
    async with _served(server) as connections:
        for _ in range(3):
            connection = await _post(connections)
            assert await connection.read() == b"onetwo"
            connection.leave(is_whole=True)
            await asyncio.sleep(0.1)
    assert len(server.asked) == 3


async def test_two_answers_to_one_question_end_the_connection() -> None:
    server = _Server(_whole_and_another, _whole)
    async with _served(server) as connections:
        connection = await _post(connections)
        assert await connection.read() == b"one"
        connection.leave(is_whole=True)
        connection = await _post(connections)
        assert await connection.read() == b"onetwo"
    assert server.connections == 2


async def test_a_server_that_has_vanished_costs_one_question_its_time() -> None:
    server = _Server(_whole, _whole, _silent, _whole)
    async with _served(server) as connections:
        both = [await _post(connections) for _ in range(2)]
        for connection in both:
            assert await connection.read() == b"onetwo"
            connection.leave(is_whole=True)
        with pytest.raises(TimeoutError):
            await _post(connections, within_s=0.1)
        connection = await _post(connections)
        assert await connection.read() == b"onetwo"
    assert server.connections == 3
