"""HTTP/1.1 on connections that are kept: one request at a time on each, the body as it comes.

What asks for an answer's events speaks it. A client of a library, whose work is done by threads of
its own, costs a process several times as much for each answer, and for each event.
"""

import asyncio
import ssl
from typing import cast
from urllib.parse import urlsplit

import httptools

from planes.shared.deadlines import Deadline, answer_within

_MOST_UNREAD_BYTES = 256 * 1024
_IDLE_S = 5.0
_AGE_S = 30.0  # then another server may have its turn
_END_S = 1.0  # after its last event an answer's body should end


class BrokenOff(Exception):
    """A connection was not to be had, was lost, or brought something else than HTTP."""


class KeptConnections:
    """Connections to one server. The one that was used last is used next."""

    def __init__(self, url: str) -> None:
        """Store where the server is.

        Args:
            url: `http://` or `https://`, a host, perhaps a port and a path above all others.
        """
        address = urlsplit(url)
        self._host = address.hostname or ""
        self._tls = ssl.create_default_context() if address.scheme == "https" else None
        self._port = address.port or (443 if self._tls else 80)
        self._above = address.path.rstrip("/")
        self._head_end = f" HTTP/1.1\r\nhost: {address.netloc.rpartition('@')[2]}\r\n"
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._is_closed = False

    async def post(self, path: str, head: str, body: bytes, *, within_s: float) -> "Connection":
        r"""Send a request; return its connection when the head of the answer has come.

        Where the server has closed a kept connection meanwhile, the request goes over a new one.

        Args:
            path: Below the server's.
            head: The fields of the request, each with its `\r\n`, without length and host.
            body: Of the request.
            within_s: For all of it; time in which our loop stood still is added.

        Raises:
            BrokenOff: There is no connection, or it broke.
            TimeoutError: No head in time.
        """
        first = f"POST {self._above}{path}{self._head_end}content-length: {len(body)}\r\n{head}\r\n"
        request = first.encode() + body
        end = asyncio.get_running_loop().time() + within_s
        kept = self._kept()
        if kept is not None:
            try:
                await kept.ask(request, within_s)
            except TimeoutError:  # perhaps its server has vanished, and all others with it
                for other in list(self._idle):
                    other.abort()
                raise
            except BrokenOff:
                if kept.has_answered or self._is_closed:
                    raise
            else:
                return kept
        connection = await self._connected(end)
        await connection.ask(request, _left(end))
        return connection

    def close(self) -> None:
        """Close all connections."""
        self._is_closed = True
        for connection in list(self._open):
            connection.abort()

    def keep(self, connection: "Connection") -> None:
        """Take back a connection whose answer has come to its end."""
        self._idle.append(connection)

    def note(self, connection: "Connection") -> None:
        """Note that a connection was opened."""
        self._open.add(connection)

    def forget(self, connection: "Connection") -> None:
        """Note that a connection was closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _kept(self) -> "Connection | None":
        oldest = asyncio.get_running_loop().time() - _IDLE_S
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle[0].abort()
        return self._idle.pop() if self._idle else None

    async def _connected(self, end: float) -> "Connection":
        loop = asyncio.get_running_loop()
        try:
            async with answer_within(_left(end)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls
                )
        except TimeoutError:
            raise
        except OSError as error:
            raise BrokenOff(str(error)) from error
        return connection


def _left(end: float) -> float:
    """Return the seconds until then; a thousandth at least, in which what is there is taken."""
    return max(end - asyncio.get_running_loop().time(), 0.001)


class Connection(asyncio.Protocol):
    """One connection, with the answer to its last request."""

    def __init__(self, connections: KeptConnections) -> None:
        """Store to whom it belongs."""
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._deadline = Deadline(self._on_deadline)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._unread_bytes = 0
        self._is_paused = self._is_left = self._is_late = False
        self._is_complete = self._is_lost = self._may_be_kept = False
        self._is_idle = True
        self._opened_at = self._loop.time()
        self.status = 0
        self.has_answered = False
        self.idle_since = 0.0

    async def ask(self, request: bytes, within_s: float) -> None:
        """Send a request, and wait so many seconds for the status of its answer.

        Raises:
            BrokenOff: The connection was lost.
            TimeoutError: The deadline has passed.
        """
        self._is_complete = self._is_left = self._is_idle = self.has_answered = False
        self._parts.clear()
        self.status = 0
        self.put_off(within_s)
        if self._transport is not None:
            self._transport.write(request)
        try:
            while not self.status:
                await self._more()
        except BaseException:
            self.abort()
            raise

    async def read(self) -> bytes:
        """Wait for the next part of the body, all that has come of it; empty after the last.

        Raises:
            BrokenOff, TimeoutError: As `ask`.
        """
        while not self._parts:
            if self._is_complete:
                return b""
            await self._more()
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._unread_bytes = 0
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def put_off(self, seconds: float) -> None:
        """Set the deadline to so many seconds from now."""
        self._is_late = False
        self._deadline.set(seconds)

    def leave(self, *, is_whole: bool) -> None:
        """Read no further; a connection is kept where its answer has ended, or is about to."""
        if self._is_complete:
            self._rest()
        elif is_whole and not self._is_lost:
            self._is_left = True
            self._deadline.set(_END_S)
        else:
            self.abort()

    def abort(self) -> None:
        """Close the connection at once."""
        self._deadline.clear()
        if self._transport is not None:
            self._transport.abort()
        self._connections.forget(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store where to write."""
        self._transport = cast("asyncio.Transport", transport)
        self._connections.note(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Whoever waits learns it."""
        del error
        self._is_lost = True
        self._deadline.clear()
        self._connections.forget(self)
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Take what has come, and wake whoever reads it, once.

        What nobody has asked for ends the connection: it would be taken for the next answer.
        """
        if self._is_idle:
            self._is_lost = True
            self.abort()
            return
        self.has_answered = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._is_lost = True
            self.abort()
        self._wake()

    def on_message_begin(self) -> None:
        """A second answer to one question is nobody's."""
        if self._is_complete:
            self._is_lost = True

    def on_headers_complete(self) -> None:
        """Note the status; those below 200 only say that the answer will come."""
        status = self._parser.get_status_code()
        self.status = status if status >= 200 else 0
        self._may_be_kept = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Keep a part of the body until it is read."""
        if self._is_left or self._is_complete:
            return
        self._parts.append(body)
        self._unread_bytes += len(body)
        if self._unread_bytes > _MOST_UNREAD_BYTES and not self._is_paused:
            self._is_paused = True
            if self._transport is not None:
                self._transport.pause_reading()

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if not self.status or self._is_complete:
            return
        self._is_complete = True
        if self._is_left:
            self._rest()

    def _rest(self) -> None:
        """Wait for the next request, where the server lets us."""
        self._deadline.clear()
        self._parts.clear()
        self._unread_bytes = 0
        now = self._loop.time()
        is_old = now - self._opened_at > _AGE_S
        if self._is_lost or self._is_paused or is_old or not self._may_be_kept:
            self.abort()
            return
        self._is_left, self._is_idle = False, True
        self.idle_since = now
        self._connections.keep(self)

    async def _more(self) -> None:
        if self._is_late:
            raise TimeoutError
        if self._is_lost:
            raise BrokenOff("The connection was lost.")
        self._waiting = self._loop.create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _on_deadline(self) -> None:
        if self._is_left:
            self.abort()
            return
        self._is_late = True
        self._wake()
