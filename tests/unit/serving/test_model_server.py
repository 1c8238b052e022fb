import httpx
import pytest

from planes.serving.generation.model_server import ModelServerProbe
from planes.shared.errors import Unavailable


class Server(httpx.AsyncBaseTransport):
    """A model's server that answers with its status, or not at all where that is None."""

    def __init__(self, status: int | None) -> None:
        self.status = status
        self.asked: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(self.status)


def client_of(server: Server) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=server, base_url="http://model/v1")


@pytest.mark.parametrize("status", [200, 401, 404])
async def test_a_server_that_answers_at_all_is_up(status: int) -> None:
    server = Server(status)
    async with client_of(server) as client:
        await ModelServerProbe([client]).check()
    assert server.asked == ["http://model/v1/models"]


@pytest.mark.parametrize("status", [500, 503, None])
async def test_a_server_that_fails_or_is_away_is_down(status: int | None) -> None:
    async with client_of(Server(status)) as client:
        with pytest.raises(Unavailable):
            await ModelServerProbe([client]).check()


async def test_a_server_is_asked_once_in_ten_seconds() -> None:
    server, now = Server(200), [0.0]
    async with client_of(server) as client:
        probe = ModelServerProbe([client], clock=lambda: now[0])
        await probe.check()
        server.status, now[0] = None, 9.9
        await probe.check()
        now[0] = 10.0
        with pytest.raises(Unavailable):
            await probe.check()
    assert len(server.asked) == 2


async def test_one_server_of_a_chain_is_enough() -> None:
    async with client_of(Server(None)) as down, client_of(Server(200)) as up:
        await ModelServerProbe([down, up]).check()
