"""Which ports the parts get."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from services.embedded.ports import (
    PortTaken,
    admin_ports,
    choose,
    claim,
    free_port,
    is_free,
    url,
)
from services.gateway.listening import listening_sockets


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


def test_free_ports_are_taken_as_wanted() -> None:
    wanted = {"gateway": free_port(), "redis": free_port()}
    choice = choose(wanted, host="127.0.0.1", strict=True)
    assert choice.ports == wanted
    assert choice.notes == []


def test_another_port_is_taken_and_said(taken: int) -> None:
    choice = choose({"gateway": taken}, host="127.0.0.1", strict=False)
    assert choice.ports["gateway"] != taken
    assert is_free("127.0.0.1", choice.ports["gateway"])
    assert str(taken) in choice.notes[0]
    assert str(choice.ports["gateway"]) in choice.notes[0]


def test_strict_ports_fail(taken: int) -> None:
    with pytest.raises(PortTaken, match=str(taken)):
        choose({"gateway": taken}, host="127.0.0.1", strict=True)


def test_a_port_that_is_let_go_of_in_time_is_waited_for() -> None:
    with socket.socket() as listener, ThreadPoolExecutor(1) as beside:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = int(listener.getsockname()[1])
        chosen = beside.submit(
            choose, {"gateway": port}, host="127.0.0.1", strict=True, patience_s=60
        )
        with pytest.raises(TimeoutError):
            chosen.result(timeout=0.2)
        listener.close()
        assert chosen.result().ports == {"gateway": port}


def test_zero_asks_for_any_port_and_is_no_surprise() -> None:
    choice = choose({"gateway": 0, "redis": 0}, host="127.0.0.1", strict=True)
    assert len(set(choice.ports.values())) == 2
    assert choice.notes == []


def test_two_parts_never_share_a_port() -> None:
    port = free_port()
    choice = choose({"gateway": port, "redis": port}, host="127.0.0.1", strict=False)
    assert len(set(choice.ports.values())) == 2


def test_a_server_on_every_address_is_reached_on_loopback() -> None:
    assert url("0.0.0.0", 8000) == "http://127.0.0.1:8000"  # noqa: S104
    assert url("::", 8000, tls=True) == "https://[::1]:8000"
    assert url("10.0.0.1", 8000) == "http://10.0.0.1:8000"
    assert url("::1", 8000) == "http://[::1]:8000"


def test_a_claimed_port_is_shared_with_our_processes_and_with_no_other_platform() -> None:
    port = free_port()
    with claim("127.0.0.1", port):
        with pytest.raises(PortTaken):
            claim("127.0.0.1", port)
        assert not is_free("127.0.0.1", port)
        first, second = (listening_sockets("127.0.0.1", port, is_shared=True)[0] for _ in range(2))
        with first, second, pytest.raises(SystemExit, match="cannot listen"):
            listening_sockets("127.0.0.1", port)


def test_each_gateway_process_has_an_admin_port_under_its_parts_name() -> None:
    ports = {"gateway": 8000, "admin": 8001, "admin_2": 8002, "redis": 6380}
    assert admin_ports(ports) == {"gateway": 8001, "gateway-2": 8002}
