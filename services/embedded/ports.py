"""Which ports the parts listen on."""

import errno
import random
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass

_NEARBY = 50
FIRST_OUTGOING_PORT = 32_768  # of Linux; elsewhere it lies higher
_LEAST_PORT = 20_000  # Ray's workers listen on those from 10002 to 19999
_LOOK_S = 0.05


class PortTaken(RuntimeError):
    """A port is in use, and the caller asked for exactly that one."""


@dataclass(frozen=True, slots=True)
class PortChoice:
    """The ports, and a sentence for each that is not the wanted one."""

    ports: dict[str, int]
    notes: list[str]


def choose(
    wanted: Mapping[str, int], *, host: str, strict: bool, patience_s: float = 0
) -> PortChoice:
    """Take the wanted ports, or free ones where they are taken.

    Args:
        wanted: By purpose; 0 asks for any free port.
        host: Address of the gateway's port; the others are on loopback.
        strict: Fail where a wanted port is taken.
        patience_s: How long to wait for wanted ports, all together. A process that was killed lets
            go of them a moment after it can no longer be found.

    Raises:
        PortTaken: A wanted port is taken and `strict` is set; names all that are.
    """
    ports: dict[str, int] = {}
    taken: dict[str, int] = {}
    end = time.monotonic() + patience_s
    for purpose, port in wanted.items():
        address = host if purpose == "gateway" else "127.0.0.1"
        if port and port not in ports.values() and _is_free_by(end, address, port):
            ports[purpose] = port
            continue
        if port:
            taken[purpose] = port
        ports[purpose] = _port_near(address, port, exclude={*wanted.values(), *ports.values()})
    if strict and taken:
        listing = ", ".join(f"{port} ({purpose})" for purpose, port in taken.items())
        raise PortTaken(f"Taken by another program: port {listing}. POLYPLANE_STRICT_PORTS is set.")
    notes = [
        f"Port {port} is taken by another program: {purpose} is on {ports[purpose]} instead."
        for purpose, port in taken.items()
    ]
    return PortChoice(ports, notes)


def _is_free_by(end: float, address: str, port: int) -> bool:
    while not (found := is_free(address, port)) and time.monotonic() < end:
        time.sleep(_LOOK_S)
    return found


def is_free(address: str, port: int) -> bool:
    """Tell whether a server could listen there now."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen()
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def admin_ports(ports: Mapping[str, int]) -> dict[str, int]:
    """Return the admin port of each gateway process, by the name of its part."""
    return {
        purpose.replace("admin", "gateway").replace("_", "-"): port
        for purpose, port in ports.items()
        if purpose == "admin" or purpose.startswith("admin_")
    }


def claim(address: str, port: int) -> socket.socket:
    """Hold a port that several of our processes will share, so that no other platform joins them.

    The socket never listens. It is bound alone, and opened for sharing only then: a second
    platform that would share the same port fails to do the same.

    Raises:
        PortTaken: Somebody else has the port.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    held = socket.socket(family)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((address, port))
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        held.close()
        raise PortTaken(f"Taken by another program: port {port} (gateway).") from error
    return held


def url(host: str, port: int, *, tls: bool = False) -> str:
    """Return the address under which a server that listens on `host` is reached from here."""
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - not bound here
    name = f"[{local}]" if ":" in local else local
    return f"{'https' if tls else 'http'}://{name}:{port}"


def free_port(address: str = "127.0.0.1") -> int:
    """Return some port that a server could listen on now.

    It lies above those that Ray gives to its workers (10002 to 19999) and below those that systems
    hand to outgoing connections (32768 and more on Linux, 49152 elsewhere), so that neither takes
    it before the server does.
    """
    while True:
        port = random.randrange(_LEAST_PORT, FIRST_OUTGOING_PORT)  # noqa: S311 - no secret
        if is_free(address, port):
            return port


def _port_near(address: str, near: int, *, exclude: set[int]) -> int:
    for port in range(near + 1, near + _NEARBY) if near else ():
        if port not in exclude and is_free(address, port):
            return port
    while (port := free_port(address)) in exclude:
        pass
    return port
