"""The last seconds of a process: it still serves, and sends its clients elsewhere."""

import asyncio

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planes.shared.errors import Unavailable
from services.gateway.problems import problem_response

RESTARTING = "This gateway process is restarting. Try again in a moment."


class Drain:
    """Whether this process is about to end."""

    def __init__(self) -> None:
        """Begin in service."""
        self.is_on = False

    def begin(self) -> None:
        """From here on readiness fails and connections are not kept alive."""
        self.is_on = True


class DrainMiddleware:
    """Closes each connection after its answer while the process drains.

    A request that outlives the process gets a 503 where its answer has not begun.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        """Store the application below and the state of the process."""
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_drained(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                if self._drain.is_on:
                    MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, send_drained)
        except asyncio.CancelledError:
            if has_begun or not self._drain.is_on:
                raise
            await problem_response(Unavailable(RESTARTING))(scope, receive, send_drained)
