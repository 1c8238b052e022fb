import socket
from collections.abc import Iterator

import grpc
import pytest
from ray.serve._private import replica

from planes.serving.deployments.loopback import listen_on_loopback


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    original = replica.add_port_to_grpc_server
    yield
    replica.add_port_to_grpc_server = original


async def test_a_replicas_server_listens_on_loopback_alone() -> None:
    listen_on_loopback()
    listen_on_loopback()
    server = grpc.aio.server()
    port = replica.add_port_to_grpc_server(server, "[::]:0")
    with socket.socket() as other:  # all of 127/8 is ours, so a server on all interfaces has it
        other.bind(("127.0.0.2", port))
    await server.stop(None)


def test_an_address_that_we_do_not_know_is_refused() -> None:
    listen_on_loopback()
    with pytest.raises(RuntimeError, match=r"10\.0\.0\.5"):
        replica.add_port_to_grpc_server(None, "10.0.0.5:0")


def test_another_way_to_start_the_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def other(_: object) -> None: ...

    monkeypatch.setattr(replica.Replica, "_on_initialized", other)
    with pytest.raises(RuntimeError, match="cannot be kept on loopback"):
        listen_on_loopback()
