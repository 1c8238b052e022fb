"""The gateway as the product starts it, with the ladder's lower steps beside its own routes."""

import uvloop
from fastapi import FastAPI, Request

from planes.shared.telemetry import configure_logging
from services.gateway import __main__ as product
from services.gateway.app import create_app
from services.gateway.auth.dependencies import Asker, BearerToken
from services.gateway.chat.booking import Settlement
from services.gateway.chat.schemas import ChatRequest
from services.gateway.chat.service import Asked
from services.gateway.settings import GatewaySettings
from tests.benchmarks.gateway.upstream import MODEL

_PAYLOAD = {"citations": [], "grounded": False, "created_at": "2026-11-21T08:00:00+00:00"}


def _with_steps(settings: GatewaySettings) -> FastAPI:
    app = create_app(settings)

    @app.get("/steps/hello")
    async def hello() -> dict[str, str]:
        return {"hello": "world"}

    @app.get("/steps/jwt")
    async def jwt(request: Request, token: BearerToken) -> dict[str, str]:
        claims = request.app.state.identity.access._tokens.verify(token)
        return {"role": claims.role}

    @app.get("/steps/limits")
    async def limits(account: Asker) -> dict[str, str]:
        return {"role": account.role}

    @app.post("/steps/book")
    async def book(request: Request, account: Asker, asked: ChatRequest) -> dict[str, str]:
        chat = request.app.state.chat
        intent = chat._intent(Asked(asked, asked.conversation_id))
        await chat._books.reserve(account.context, intent)
        answer = Settlement(MODEL, 40, 7, {**_PAYLOAD, "content": "Seven words."})
        cost = await chat._books.settle(account.context, intent.answer_id, answer)
        return {"cost_usd": str(cost)}

    return app


def main() -> None:
    """Read the settings and serve, as the product does."""
    settings = GatewaySettings.read()
    configure_logging("gateway", settings.log_level)
    product.create_app = _with_steps  # type: ignore[attr-defined]
    uvloop.run(product.serve(settings))


if __name__ == "__main__":
    main()
