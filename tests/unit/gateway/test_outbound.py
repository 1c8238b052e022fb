"""Where the gateway connects to when a client names the host."""

import socket
from ipaddress import ip_address, ip_network

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from services.gateway.outbound import (
    AddressRefused,
    HostUnresolved,
    PortRefused,
    checked_addresses,
    is_reachable,
    outbound_client,
)
from tests.integration.gateway.conftest import served

LOOPBACK = [ip_network("127.0.0.0/8")]


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_public_addresses_are_reachable(address: str) -> None:
    assert is_reachable(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep credentials
        "100.64.0.1",  # shared by carriers, RFC 6598
        "0.0.0.0",  # noqa: S104
        "255.255.255.255",
        "224.0.0.1",
        "239.255.255.250",
        "198.18.0.1",
        "203.0.113.7",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",  # loopback through a translator, RFC 6052
        "2002:7f00:1::",  # loopback through 6to4
        "2001:0:1::1",  # Teredo
    ],
)
def test_other_addresses_are_not_reachable(address: str) -> None:
    assert not is_reachable(ip_address(address))


def test_an_operator_may_allow_networks() -> None:
    assert is_reachable(ip_address("10.1.2.3"), [ip_network("10.0.0.0/8")])
    assert is_reachable(ip_address("::ffff:10.1.2.3"), [ip_network("10.0.0.0/8")])
    assert not is_reachable(ip_address("10.1.2.3"), [ip_network("10.2.0.0/16")])


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "::1"])
async def test_whatever_is_written_the_address_counts(host: str) -> None:
    with pytest.raises(AddressRefused):
        await checked_addresses(host, 80)


async def test_one_bad_address_spoils_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(0, 0, 0, "", (address, 80)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(AddressRefused):
        await checked_addresses("example.com", 80)


@pytest.mark.parametrize("port", [22, 25, 993])
async def test_other_services_than_the_webs_are_not_spoken_to(port: int) -> None:
    with pytest.raises(PortRefused, match=f"Port {port} "):
        await checked_addresses("8.8.8.8", port)
    allowed = [ip_network("8.8.8.0/24")]
    assert await checked_addresses("8.8.8.8", port, allowed) == [ip_address("8.8.8.8")]


@pytest.mark.parametrize("port", [80, 443, 8443])
async def test_the_webs_ports_are_spoken_to(port: int) -> None:
    assert await checked_addresses("8.8.8.8", port) == [ip_address("8.8.8.8")]


@pytest.mark.parametrize("host", ["", "nothing.invalid", "x" * 64 + ".com", "a..b"])
async def test_a_name_without_an_address_is_refused_in_the_same_words(host: str) -> None:
    with pytest.raises(HostUnresolved) as unresolved:
        await checked_addresses(host, 80)
    assert unresolved.value.detail == AddressRefused(host).detail


async def _echo(scope: Scope, _receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    host = dict(scope["headers"])[b"host"]
    headers = [(b"set-cookie", b"a=b"), (b"location", b"http://127.0.0.1:9/")]
    await send({"type": "http.response.start", "status": 302, "headers": headers})
    await send({"type": "http.response.body", "body": host})


async def test_a_name_is_resolved_once_and_its_checked_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(_echo) as url, outbound_client(LOOPBACK) as client:
        port = httpx.URL(url).port
        assert port is not None
        asked: list[str] = []
        resolve = socket.getaddrinfo

        def rebind(host: str, *rest: object, **more: object) -> object:
            if host != "rebinding.example":
                return resolve(host, *rest, **more)  # type: ignore[call-overload]
            asked.append(host)
            address = "127.0.0.1" if len(asked) == 1 else "10.0.0.1"
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        monkeypatch.setattr(socket, "getaddrinfo", rebind)
        answer = await client.get(f"http://rebinding.example:{port}/")
        assert asked == ["rebinding.example"]
        assert answer.text == f"rebinding.example:{port}", "the server is told the name"
        assert answer.status_code == 302, "not followed"
        assert not client.cookies
        with pytest.raises(AddressRefused):
            await client.get(f"http://rebinding.example:{port}/")


async def test_the_name_that_is_resolved_is_the_one_that_the_server_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(_echo) as url, outbound_client(LOOPBACK) as client:
        port = httpx.URL(url).port
        asked: list[str] = []

        def resolve(host: str, *_: object, **__: object) -> object:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

        with monkeypatch.context() as patched:
            patched.setattr(socket, "getaddrinfo", resolve)
            answer = await client.get(f"http://faß.example:{port}/")
        assert asked[0] == "xn--fa-hia.example", "and not fass.example, as IDNA 2003 has it"
        assert answer.text == f"xn--fa-hia.example:{port}"


async def test_without_leave_loopback_is_refused_before_a_connection() -> None:
    async with served(_echo) as url, outbound_client() as client:
        with pytest.raises(AddressRefused):
            await client.get(url)
