"""The plain chain: a chat as FastAPI's documentation would have it written.

    python -m tests.benchmarks.gateway.plain

Dependencies verify the token, count the request in Redis and debit the balance in a transaction of
its own; the route asks the upstream by aiohttp and answers with a model. It keeps no conversation.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel
from redis.asyncio import Redis

from tests.benchmarks.gateway.beside import (
    LIMIT_SCRIPT,
    LIMITS,
    MAX_PROMPT_TOKENS,
    Place,
    done_of,
    serve,
)
from tests.benchmarks.gateway.books import DEBIT


class Question(BaseModel):
    message: str
    conversation_id: UUID
    mode: str
    max_tokens: int


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int


class Answer(BaseModel):
    id: UUID
    conversation_id: UUID
    content: str
    model: str
    finish_reason: str
    usage: Usage


class Caller(BaseModel):
    tenant_id: UUID
    user_id: UUID
    session_id: UUID


_bearer = HTTPBearer()


async def caller(
    request: Request, token: Annotated[HTTPAuthorizationCredentials, Depends(_bearer)]
) -> Caller:
    """Return who calls."""
    place: Place = request.app.state.place
    try:
        claims = place.verified(token.credentials)
    except (jwt.PyJWTError, KeyError) as error:
        raise HTTPException(401, "The access token is not valid.") from error
    return Caller(tenant_id=claims["tenant"], user_id=claims["sub"], session_id=claims["session"])


async def limited(request: Request, who: Annotated[Caller, Depends(caller)]) -> Caller:
    """Count the request."""
    user = who.user_id
    keys = [f"plain:ended:{{{user}}}:{who.session_id}"]
    keys += [f"plain:rate:{{{user}}}:{policy}" for policy in ("requests", "chat")]
    if await request.app.state.limit(keys=keys, args=LIMITS) != 1:
        raise HTTPException(429, "Too many requests.")
    return who


async def paid(
    request: Request, asked: Question, who: Annotated[Caller, Depends(limited)]
) -> Caller:
    """Debit the longest possible answer."""
    tokens, (debit, row) = MAX_PROMPT_TOKENS + asked.max_tokens, DEBIT
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        if await connection.execute(debit, who.tenant_id, tokens) != "UPDATE 1":
            raise HTTPException(402, "The quota is used up.")
        await connection.execute(row, uuid4(), who.tenant_id, who.user_id, tokens)
    return who


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the clients."""
    place: Place = app.state.place
    redis = Redis.from_url(place.redis_url)
    app.state.limit = redis.register_script(LIMIT_SCRIPT)
    async with (
        asyncpg.create_pool(place.database_url) as app.state.pool,
        aiohttp.ClientSession() as app.state.http,
    ):
        yield
    await redis.aclose()


def create_app(place: Place) -> FastAPI:
    """Return the application."""
    app = FastAPI(lifespan=lifespan)
    app.state.place = place

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/chat")
    async def chat(
        request: Request, asked: Question, who: Annotated[Caller, Depends(paid)]
    ) -> Answer:
        body: dict[str, Any] = {**asked.model_dump(mode="json"), "tenant": str(who.tenant_id)}
        async with request.app.state.http.post(place.upstream_url, json=body) as response:
            done = done_of(await response.read())
        return Answer(**{**done, "id": uuid4(), "conversation_id": asked.conversation_id})

    return app


def main() -> None:
    """Serve."""
    place = Place.read()
    serve(create_app(place), place.port)


if __name__ == "__main__":
    main()
