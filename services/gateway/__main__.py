"""`python -m services.gateway`: the public server and the admin server, in one process."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import uvicorn
import uvloop
from fastapi import FastAPI

from planes.shared.errors import Unavailable
from planes.shared.telemetry import configure_logging
from services.gateway.admin.drain import RESTARTING
from services.gateway.admin.routes import create_admin_app
from services.gateway.app import create_app
from services.gateway.connections import ConnectionLimits
from services.gateway.listening import listening_sockets, most_connections
from services.gateway.server import Ending, PublicServer
from services.gateway.settings import GatewaySettings

_KEEP_ALIVE_S = 75  # longer than clients and proxies keep an idle connection: these close first


class _AdminServer(uvicorn.Server):
    """Leaves signals to the public server and ends with it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: GatewaySettings) -> None:
    """Serve until a signal; then readiness ends, running answers are settled, and it returns.

    Raises:
        SystemExit: The ports are taken, or the gateway does not start.
    """
    sockets = listening_sockets(settings.host, settings.port, is_shared=settings.share_port)
    admin_sockets = listening_sockets(settings.admin_host, settings.admin_port)
    app = create_app(settings)
    public, admin = _public_server(app, settings), _admin_server(app)

    async def watch() -> None:
        await public.is_running.wait()
        await admin.serve(sockets=admin_sockets)

    watching = asyncio.create_task(watch())
    await public.serve(sockets=sockets)
    if not public.started:
        sys.exit("The gateway did not start; the log says why.")
    admin.should_exit = True
    await watching


def _end_answers(app: FastAPI) -> None:
    app.state.streams.end_streams(Unavailable(RESTARTING))
    app.state.chat.end_answers(Unavailable(RESTARTING))


def _public_server(app: FastAPI, settings: GatewaySettings) -> PublicServer:
    config = uvicorn.Config(
        app,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        ws="none",
    )
    ending = Ending(
        drain=app.state.drain,
        drain_s=settings.drain_s,
        shutdown_s=settings.shutdown_s,
        end_answers=lambda: _end_answers(app),
    )
    most = most_connections(settings.max_connections)
    return PublicServer(config, ending, ConnectionLimits(most=most, head_s=settings.head_s))


def _admin_server(app: FastAPI) -> _AdminServer:
    config = uvicorn.Config(
        create_admin_app(app),
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )
    return _AdminServer(config)


def main() -> None:
    """Read the settings and serve.

    Raises:
        SystemExit: A setting is missing or wrong, or the gateway did not start.
    """
    settings = GatewaySettings.read()
    configure_logging("gateway", settings.log_level)
    uvloop.run(serve(settings))


if __name__ == "__main__":
    main()
