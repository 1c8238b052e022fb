"""The public server of one gateway process: one of several on a port, and how it ends."""

import asyncio
import contextlib
import gc
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
import uvicorn

from services.gateway.admin.drain import Drain

_BACKLOG = 2048
_LINGER_S = 0.5
_ANSWERS_END_S = 4.0
_LAST_S = 8.0
_log = structlog.get_logger(__name__)


def listening_sockets(host: str, port: int, *, is_shared: bool = False) -> list[socket.socket]:
    """Bind the port on every address of `host`; the server listens later.

    Args:
        host: Name or address.
        port: TCP port.
        is_shared: Other processes of this account may bind it too (SO_REUSEPORT), and the kernel
            spreads connections over them. Otherwise a second program is refused.

    Raises:
        SystemExit: The address cannot be listened on; it says why.
    """
    sockets: list[socket.socket] = []
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(addresses):
            listener = socket.socket(family, kind, protocol)
            sockets.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.setblocking(False)
    except OSError as error:
        for listener in sockets:
            listener.close()
        raise SystemExit(f"The gateway cannot listen on {host}, port {port}: {error}") from error
    return sockets


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ends, in seconds after the first signal.

    Attributes:
        drain: Told first, so that readiness fails while requests are still served.
        drain_s: Until the listeners close.
        shutdown_s: Until `end_answers` is called.
        end_answers: Ends the answers that are still under way, each with an `error` event.
    """

    drain: Drain
    drain_s: float
    shutdown_s: float
    end_answers: Callable[[], None]

    @property
    def graceful_s(self) -> int:
        """Seconds from the closing of the listeners until requests under way are cancelled."""
        return math.ceil(self.shutdown_s - self.drain_s + _ANSWERS_END_S)

    @property
    def latest_s(self) -> float:
        """Seconds after which the process is gone, whatever hangs."""
        return self.shutdown_s + _LAST_S


class PublicServer(uvicorn.Server):
    """Serves until a signal, drains, and finishes what is under way; a second signal ends it."""

    def __init__(self, config: uvicorn.Config, ending: Ending) -> None:
        """Store the configuration and how to end."""
        super().__init__(config)
        config.timeout_graceful_shutdown = ending.graceful_s
        self.is_running = asyncio.Event()
        self._ending = ending
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT; unlike uvicorn's, this does not raise them again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen."""
        await super().startup(sockets)
        # What was loaded stays: the collector must not walk over it again and again.
        gc.collect()
        gc.freeze()
        self.is_running.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, serve what has come in, and close the application."""
        last = [listener.dup() for listener in sockets or []]
        for server in self.servers:
            server.close()
        await asyncio.gather(*(self._serve_queue(listener) for listener in last))
        # Who connected a moment ago has not asked yet.
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)

    async def _serve_queue(self, listener: socket.socket) -> None:
        """Close a listener, and serve who is in its queue: closing alone would reset them."""
        waiting = []
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting.append(listener.accept()[0])
        listener.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with contextlib.suppress(OSError):  # it hung up in the meantime
                await loop.connect_accepted_socket(
                    self._protocol, connection, ssl=self.config.ssl or None
                )

    def _protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def _on_signal(self, number: int) -> None:
        if self._draining is not None:
            _log.warning("a second signal: ends at once")
            os._exit(128 + number)
        _log.info("stopping", signal=number)
        self._ending.drain.begin()
        self._draining = asyncio.create_task(self._drain())
        if self.started:
            loop = asyncio.get_running_loop()
            loop.call_later(self._ending.shutdown_s, self._ending.end_answers)
        last = threading.Timer(self._ending.latest_s, _end_now)
        last.daemon = True
        last.start()

    async def _drain(self) -> None:
        if self.started:
            await asyncio.sleep(self._ending.drain_s)
        self.should_exit = True


def _end_now() -> None:
    """End a process whose orderly end hangs; what it has reserved is left to the sweeper."""
    _log.error("the orderly end hangs: ends now")
    os._exit(0)
