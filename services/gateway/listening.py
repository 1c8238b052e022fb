"""The public port: its sockets, and who is let in."""

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import Callable, Sequence

import structlog

from services.gateway.connections import Connection, OpenConnections

_BACKLOG = 2048
_AT_ONCE = 100
_PAUSE_S = 1.0
_ENOUGH_DESCRIPTORS = 65_536
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


def most_connections(wanted: int) -> int:
    """Raise this process's limit of file descriptors, and return how many connections it allows.

    At most half of the descriptors: files, stores and the admin port need the others.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    aim = _ENOUGH_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft not in (resource.RLIM_INFINITY, aim):
        with contextlib.suppress(ValueError, OSError):  # the system allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (aim, hard))
            soft = aim
    allowed = wanted if soft == resource.RLIM_INFINITY else min(wanted, soft // 2)
    if allowed < wanted:
        _log.warning("few file descriptors", limit=soft, connections=allowed, wanted=wanted)
    return allowed


class Acceptor:
    """Accepts connections; at the bound, the one that has been silent longest makes room."""

    def __init__(
        self,
        connections: OpenConnections,
        make: Callable[[bool], Connection],
        tls: ssl.SSLContext | None,
    ) -> None:
        """Store what is open, and how a connection is made; True asks for one that is refused."""
        self._connections = connections
        self._make = make
        self._tls = tls
        self._opening: dict[asyncio.Task[None], None] = {}
        self._listeners: Sequence[socket.socket] = ()

    def listen(self, listeners: Sequence[socket.socket]) -> None:
        """Accept from these sockets from now on."""
        self._listeners = listeners
        for listener in listeners:
            listener.listen(_BACKLOG)
            self._resume(listener)

    async def close(self) -> None:
        """Stop, and let in who is in the queues: closing alone would reset them."""
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)
            while self._accept(listener):
                pass
            loop.remove_reader(listener)
            listener.close()
        await asyncio.gather(*self._opening, return_exceptions=True)

    def _resume(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> bool:
        """Take some of those who wait; tell whether there may be more."""
        for _ in range(_AT_ONCE):
            try:
                connection, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as error:  # no descriptors are left: retry later, not at once for ever
                _log.error("accepts no connections", reason=str(error))
                loop = asyncio.get_running_loop()
                loop.remove_reader(listener)
                loop.call_later(_PAUSE_S, self._resume, listener)
                return False
            self._let_in(connection)
        return True

    def _let_in(self, connection: socket.socket) -> None:
        is_full = len(self._connections) + len(self._opening) >= self._connections.limits.most
        is_refused = is_full and not self._make_room()
        task = asyncio.create_task(self._open(connection, is_refused=is_refused))
        self._opening[task] = None
        task.add_done_callback(lambda done: self._opened(done, connection))

    def _make_room(self) -> bool:
        if self._tls is not None and self._opening:
            next(iter(self._opening)).cancel()  # its handshake has not ended
            return True
        return self._connections.make_room()

    async def _open(self, connection: socket.socket, *, is_refused: bool) -> None:
        connection.setblocking(False)
        handshake_s = self._connections.limits.head_s if self._tls else None
        with contextlib.suppress(OSError):  # it hung up, or is not our kind of client
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self._make(is_refused),
                connection,
                ssl=self._tls,
                ssl_handshake_timeout=handshake_s,
            )

    def _opened(self, task: asyncio.Task[None], connection: socket.socket) -> None:
        self._opening.pop(task, None)
        if task.cancelled():
            connection.close()
