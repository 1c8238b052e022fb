"""The rate headers of every answer, good or bad, streamed or not."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.limits.rates import Rates

RATE_STATE = "rate"


class RateHeadersMiddleware:
    """Writes `RateLimit` and `RateLimit-Policy` where authentication left a rate in the state."""

    def __init__(self, app: ASGIApp) -> None:
        """Store the application below."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_rate(message: Message) -> None:
            rates = state.get(RATE_STATE)
            if message["type"] == "http.response.start" and isinstance(rates, Rates):
                MutableHeaders(scope=message).update(rates.headers())
            await send(message)

        await self._app(scope, receive, send_with_rate)
