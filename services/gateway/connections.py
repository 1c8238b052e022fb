"""HTTP connections: how much a request's head may say, how long it may take, who makes room."""

import asyncio
import json
import select
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from planes.shared.errors import BadRequest, PlatformError, RequestTimeout, Unavailable
from planes.shared.telemetry import new_trace_id

_READ_S = 0.05
_LINGER_S = 2  # for a client that still sends: closing at once would discard our answer


class _HeadTooLarge(PlatformError):
    status, code, title = 431, "head-too-large", "Request header fields too large"


class _UriTooLong(PlatformError):
    status, code, title = 414, "uri-too-long", "URI too long"


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Bounds of one process.

    Attributes:
        most: Connections open at once.
        head_s: Seconds from the first byte (of a new connection: from its start) until a
            request's head is complete.
        head_bytes: Size of a head, request line and fields.
    """

    most: int
    head_s: int
    head_bytes: int = 32 * 1024


class OpenConnections:
    """All connections of a process, and those without a request under way, longest first."""

    def __init__(self, state: ServerState, limits: ConnectionLimits) -> None:
        """Store the server's state, which holds all connections."""
        self.limits = limits
        self.waiting: dict[Connection, None] = {}
        self._state = state

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._state.connections)

    def age(self) -> None:
        """Count a second for all that keep us waiting; one loop is cheaper than a timer each."""
        for connection in list(self.waiting):
            connection.age()

    def make_room(self) -> bool:
        """Close the connection that has waited longest; tell whether there was one."""
        for connection in self.waiting:
            if connection.has_sent_all:
                del self.waiting[connection]
                connection.transport.abort()
                return True
        return False


class Connection(HttpToolsProtocol):
    """One connection. What is wrong with its bytes is answered here, and closes it.

    Seconds are counted by `age`, not read from a clock: a process that was held up itself does not
    blame its clients.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        app_state: dict[str, Any],
        connections: OpenConnections,
        *,
        is_refused: bool = False,
    ) -> None:
        """Store what uvicorn needs, and the connections of which this is one.

        Args:
            config: Of the server.
            state: Of the server.
            app_state: Of the lifespan.
            connections: All of the process.
            is_refused: There is no room: it is answered with 503.
        """
        super().__init__(config, state, app_state)
        self.url = b""
        self._connections = connections
        self._limits = connections.limits
        self._reads_head = True
        self._unread_bytes = 0  # of a head, or of what a body brings beside its content
        self._waits_s = 0
        self._is_refused = is_refused

    @property
    def has_sent_all(self) -> bool:
        """Whether the client's machine has taken all that was answered."""
        return self.transport.get_write_buffer_size() == 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._connections.waiting[self] = None
        if self._is_refused:
            self._refuse(Unavailable("All connections are in use. Try again in a moment."))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, but never more of a head than it may have."""
        if self._is_refused or self.transport.is_closing():
            return
        end = len(data)
        if self._reads_head:
            end = min(end, self._limits.head_bytes + 1 - self._unread_bytes)
        self._unread_bytes += end
        super().data_received(data[:end])
        if self._is_refused:
            return
        if self._unread_bytes > self._limits.head_bytes:
            self._refuse_head()
        elif end < len(data):
            self.data_received(data[end:])

    def on_headers_complete(self) -> None:
        """Begin a request."""
        super().on_headers_complete()
        self._reads_head = False
        self._unread_bytes = 0
        self._connections.waiting.pop(self, None)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """What comes next is a head."""
        super().on_message_complete()
        self._reads_head = True
        self._unread_bytes = 0

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that nobody reads any more."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._waits_s = 0
            self._connections.waiting[self] = None

    def age(self) -> None:
        """Count one second of waiting; between two requests uvicorn's keep-alive timer counts."""
        if self.timeout_keep_alive_task is not None or self.transport.is_closing():
            return
        self._waits_s += 1
        if self._is_refused:
            if self._waits_s >= _LINGER_S:
                self.transport.close()
        elif self._waits_s > self._limits.head_s:
            if self._reads_head and self._unread_bytes:
                self._refuse(RequestTimeout("The head of the request took too long."))
            else:
                self.transport.close()

    def shutdown(self) -> None:
        """Close between two requests, but not under one that has arrived and was not read yet."""
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and not self.transport.is_closing() and self._has_arrived():
            self.loop.call_later(_READ_S, self.shutdown)
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Close what was idle for long, unless its next request has arrived just now."""
        if not self.transport.is_closing() and not self._has_arrived():
            super().timeout_keep_alive_handler()

    def _has_arrived(self) -> bool:
        """Whether the kernel has something of the client, or knows that it has gone."""
        waiting = select.poll()
        waiting.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._refuse(BadRequest(msg))

    def _refuse_head(self) -> None:
        limit = f"{self._limits.head_bytes:,} bytes"
        if len(self.url) > self._limits.head_bytes // 2:
            self._refuse(_UriTooLong(f"The request line is too long; a head has at most {limit}."))
        else:
            self._refuse(_HeadTooLarge(f"The head of the request is larger than {limit}."))

    def _refuse(self, error: PlatformError) -> None:
        """Answer, where no other answer is under way, and close when the client has read it."""
        self._is_refused = True
        self._waits_s = 0
        self._connections.waiting[self] = None
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.close()
            return
        self.transport.write(self._answer(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _answer(self, error: PlatformError) -> bytes:
        members = {
            "type": error.type,
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "trace_id": new_trace_id(),
        }
        body = json.dumps(members).encode()
        lines = [b"%s: %s\r\n" % field for field in self.server_state.default_headers]
        if error.retry_after_s is not None:
            lines.append(b"retry-after: %d\r\n" % error.retry_after_s)
        return b"".join(
            (
                STATUS_LINE[error.status],
                *lines,
                b"content-type: application/problem+json\r\n",
                b"content-length: %d\r\n" % len(body),
                b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n",
                b"connection: close\r\n\r\n",
                body,
            )
        )
