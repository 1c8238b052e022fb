"""Requests to addresses that clients name: the public internet's, and those the operator allows.

A name is resolved once and every address it has is checked; the connection then goes to a checked
address, so that a name that changes its mind in between gains nothing. Certificates are still
checked against the name. No redirect is followed by itself: each is a new address to check.
"""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import httpx

from planes.shared.errors import InvalidInput

Address: TypeAlias = IPv4Address | IPv6Address
Networks: TypeAlias = Sequence[IPv4Network | IPv6Network]

_GLOBAL_UNICAST = IPv6Network("2000::/3")  # RFC 4291, 2.4: nothing else is routed to the internet
_6TO4 = IPv6Network("2002::/16")  # holds an IPv4 address, which may be anything
_NOT_PUBLIC = tuple(  # IANA's special-purpose registries, which `is_global` of 3.11 knows in part
    ip_network(each)
    for each in (
        *("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("2001::/23", "2001:db8::/32", "3fff::/20"),
    )
)
_MAX_TRIES = 3
_RESOLVERS = 8
_PORTS = {"http": 80, "https": 443}
_FIRST_FREE_PORT = 1024


class AddressRefused(InvalidInput):
    """The platform does not connect to this host."""

    def __init__(self, host: str) -> None:
        """Say so; what the name stands for, if anything, is nobody's business."""
        super().__init__(
            f"The host {host!r} cannot be reached from here: it has no address, or one that is not "
            "on the public internet."
        )


class HostUnresolved(AddressRefused):
    """The name has no address now; callers are told the same as of a forbidden one."""


class PortRefused(AddressRefused):
    """The port belongs to a service that is not the web's, such as mail."""

    def __init__(self, port: int) -> None:
        """Name the port."""
        InvalidInput.__init__(
            self,
            f"Port {port} cannot be reached from here: below {_FIRST_FREE_PORT}, only 80 and 443.",
        )


def is_reachable(address: Address, allowed_networks: Networks = ()) -> bool:
    """Whether an address is public, or in one of the networks that the operator allows."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in allowed_networks):
        return True
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if isinstance(address, IPv6Address):
        return address in _GLOBAL_UNICAST and address not in _6TO4
    return True


async def checked_addresses(
    host: str, port: int, allowed_networks: Networks = (), *, executor: Executor | None = None
) -> list[Address]:
    """Return the addresses of a host, in the order in which the system prefers them.

    Args:
        host: A name, or an address in any notation that the system reads.
        port: TCP port.
        allowed_networks: Networks that may be reached although they are not public.
        executor: Where the system's resolver blocks; None is the loop's own.

    Raises:
        HostUnresolved: It has none.
        AddressRefused: One of them is neither public nor allowed.
        PortRefused: It is no port of the web, and not all of them are allowed.
    """
    try:
        found = await asyncio.get_running_loop().run_in_executor(
            executor, lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        )
        addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    except (OSError, ValueError) as error:  # ValueError: a name that IDNA cannot encode
        raise HostUnresolved(host) from error
    if not addresses:
        raise HostUnresolved(host)
    if not all(is_reachable(address, allowed_networks) for address in addresses):
        raise AddressRefused(host)
    are_allowed = all(any(each in network for network in allowed_networks) for each in addresses)
    if port < _FIRST_FREE_PORT and port not in _PORTS.values() and not are_allowed:
        raise PortRefused(port)
    return list(dict.fromkeys(addresses))


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects to checked addresses only; every request has a connection of its own."""

    def __init__(self, allowed_networks: Networks = ()) -> None:
        """Store which networks are allowed besides the public ones."""
        self._allowed_networks = allowed_networks
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, "resolver")
        # Connections are kept by address: one that is used again may be of another name's host.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        self._transport = httpx.AsyncHTTPTransport(verify=_authorities(), limits=limits)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first of its host's addresses that takes a connection.

        Raises:
            AddressRefused: The host may not be reached.
            httpx.ConnectError: No address takes a connection.
        """
        url = request.url
        host = url.raw_host.decode("ascii")  # as `Host` says it: IDNA 2008, where Python has 2003
        port = url.port or _PORTS[url.scheme]
        addresses = await self._addresses(host, port, request)
        failure: httpx.TransportError | None = None
        for address in addresses[:_MAX_TRIES]:
            pinned = httpx.Request(
                request.method,
                url.copy_with(host=str(address)),
                headers=request.headers,  # `Host` is the name's
                stream=request.stream,
                extensions={**request.extensions, "sni_hostname": host},
            )
            try:
                return await self._transport.handle_async_request(pinned)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
        raise failure or httpx.ConnectError("no address", request=request)

    async def aclose(self) -> None:
        """Close every connection."""
        self._resolvers.shutdown(wait=False, cancel_futures=True)
        await self._transport.aclose()

    async def _addresses(self, host: str, port: int, request: httpx.Request) -> list[Address]:
        timeout_s = request.extensions.get("timeout", {}).get("connect")
        try:
            async with asyncio.timeout(timeout_s):
                return await checked_addresses(
                    host, port, self._allowed_networks, executor=self._resolvers
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("the name was not resolved", request=request) from error


@cache
def _authorities() -> ssl.SSLContext:
    """Return whom all clients believe: reading that takes 25 ms."""
    return httpx.create_ssl_context(trust_env=False)


def outbound_client(
    allowed_networks: Networks = (), *, connect_s: float = 5.0, idle_s: float = 10.0
) -> httpx.AsyncClient:
    """Return a client for addresses that clients name; the caller closes it.

    It follows no redirects, knows no proxies and keeps no cookies. Its deadlines are
    of each step: bound the whole exchange with `asyncio.timeout`, and read bodies as streams.

    Args:
        allowed_networks: Networks that may be reached although they are not public.
        connect_s: Longest wait for the name, and for each connection.
        idle_s: Longest wait for the next bytes.
    """
    return httpx.AsyncClient(
        transport=CheckedTransport(allowed_networks),
        timeout=httpx.Timeout(idle_s, connect=connect_s),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )
