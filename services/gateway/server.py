"""The public server of one gateway process: one of several on a port, and how it ends."""

import asyncio
import contextlib
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from planes.shared.collector import settle_collector
from services.gateway.admin.drain import Drain
from services.gateway.connections import Connection, ConnectionLimits, OpenConnections
from services.gateway.listening import Acceptor

_LINGER_S = 0.5
_ANSWERS_END_S = 4.0
_LAST_S = 8.0
_log = structlog.get_logger(__name__)


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

    def __init__(self, config: uvicorn.Config, ending: Ending, limits: ConnectionLimits) -> None:
        """Store the configuration, how to end, and the bounds of connections."""
        super().__init__(config)
        config.timeout_graceful_shutdown = ending.graceful_s
        self.is_running = asyncio.Event()
        self.servers = []  # the acceptor listens instead
        self._ending = ending
        self._connections = OpenConnections(self.server_state, limits)
        self._acceptor: Acceptor | None = None
        self._draining: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT; unlike uvicorn's, this does not raise them again."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen.

        Raises:
            SystemExit: The application does not start.
        """
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self._acceptor = Acceptor(self._connections, self._connection, self.config.ssl)
        self._acceptor.listen(sockets or [])
        self.started = True
        settle_collector()
        self.is_running.set()

    async def on_tick(self, counter: int) -> bool:
        """Run ten times a second; once a second, connections that keep us waiting grow older."""
        if counter % 10 == 0:
            self._connections.age()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, serve what has come in, and close the application."""
        if self._acceptor is not None:
            await self._acceptor.close()
        # Who connected a moment ago has not asked yet.
        await asyncio.sleep(_LINGER_S)
        await super().shutdown(sockets)

    def _connection(self, is_refused: bool) -> Connection:
        return Connection(
            self.config,
            self.server_state,
            self.lifespan.state,
            self._connections,
            is_refused=is_refused,
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
