"""`python -m services.gateway`: the public server and the admin server, in one process."""

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import uvicorn
import uvloop

from planes.shared.telemetry import configure_logging
from services.gateway.admin.routes import create_admin_app
from services.gateway.app import create_app
from services.gateway.settings import GatewaySettings

_SHUTDOWN_S = 15


class _AdminServer(uvicorn.Server):
    """Leaves signals to the public server and ends with it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: GatewaySettings) -> None:
    """Serve until a signal; then readiness ends, running answers are settled, and it returns."""
    app = create_app(settings)
    public = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_SHUTDOWN_S,
        )
    )
    admin = _AdminServer(
        uvicorn.Config(
            create_admin_app(app),
            host="127.0.0.1",
            port=settings.admin_port,
            log_config=None,
            access_log=False,
            lifespan="off",
        )
    )
    watching = asyncio.create_task(admin.serve())
    await public.serve()
    admin.should_exit = True
    await watching
    if not public.started:
        sys.exit("The gateway did not start; the log says why.")


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
