"""FastAPI's application with something in front of its layers."""

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send


class GatewayApplication(FastAPI):
    """An application whose `front` sees each request first; without one its layers do."""

    front: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await (self.front or self.layers)(scope, receive, send)

    async def layers(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by way of all layers and the router."""
        await super().__call__(scope, receive, send)
