"""The bare library loop: what a chat costs at the least on libraries, without a framework.

    python -m tests.benchmarks.gateway.bare

One ASGI function on uvicorn (uvloop, httptools). Verified tokens are known again; scripts that wait
go to Redis in one pipeline; reservations that wait, and settlements, are one statement and one
commit each; the upstream is asked by pyreqwest, and a stream's bytes are passed on as they come. It
has no conversations, roles, plans, problem documents, deadlines, retries, logs or metrics, and no
buffer from which a broken stream could be resumed.
"""

import asyncio
import gc
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1, sha256
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import asyncpg
import orjson
from pyreqwest.client import ClientBuilder
from pyreqwest.request import RequestBuilder
from pyreqwest.response import ResponseBodyReader
from redis.asyncio import Redis

from tests.benchmarks.gateway.beside import (
    LIMIT_SCRIPT,
    LIMITS,
    MAX_PROMPT_TOKENS,
    Place,
    done_of,
    serve,
)
from tests.benchmarks.gateway.books import RESERVE, SETTLE

_CONNECTIONS = 4
_MOST = 128
_JSON = (b"content-type", b"application/json")
_EVENTS = (b"content-type", b"text/event-stream")
_HEADER = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Waiting(Generic[Item, Result]):
    """Does what waits in one call; what comes meanwhile is the next group."""

    def __init__(self, do_all: Callable[[list[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._do_all = do_all
        self._items: list[tuple[Item, asyncio.Future[Result]]] = []
        self._worker: asyncio.Task[None] | None = None

    async def do(self, item: Item) -> Result:
        future = asyncio.get_running_loop().create_future()
        self._items.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        result: Result = await future
        return result

    async def _work(self) -> None:
        while self._items:
            group, self._items = self._items[:_MOST], self._items[_MOST:]
            try:
                results = await self._do_all([item for item, _ in group])
            except Exception as error:
                for _, future in group:
                    future.set_exception(error)
            else:
                for (_, future), result in zip(group, results, strict=True):
                    future.set_result(result)
        self._worker = None


class Bare:
    """The application."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._verified: dict[bytes, dict[str, Any]] = {}
        self._limits = Waiting[list[str], int](self._limit_all)
        self._reserving = Waiting[tuple[Any, ...], bool](self._reserve_all)
        self._settling = Waiting[tuple[Any, ...], None](self._settle_all)
        self._digest = sha1(LIMIT_SCRIPT.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/chat":
            await self._chat(scope, receive, send)
        else:
            await _respond(send, 200, b"{}")

    async def _live(self, receive: Any, send: Any) -> None:
        await receive()
        self._client = ClientBuilder().build()
        self._redis = Redis.from_url(self._place.redis_url)
        await self._redis.script_load(LIMIT_SCRIPT)
        self._pool = await asyncpg.create_pool(
            self._place.database_url, min_size=_CONNECTIONS, max_size=_CONNECTIONS, reset=_nothing
        )
        gc.collect()
        gc.freeze()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._pool.close()
        await self._redis.aclose()
        await self._client.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _chat(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one question, as `POST /chat` does."""
        claims = self._claims(scope)
        asked = orjson.loads(await _body(receive))
        tenant, user = UUID(claims["tenant"]), UUID(claims["sub"])
        keys = [f"bare:ended:{{{user}}}:{claims['session']}"]
        keys += [f"bare:rate:{{{user}}}:{policy}" for policy in ("requests", "chat")]
        if await self._limits.do(keys) != 1:
            await _respond(send, 429, b"{}")
            return
        answer_id, conversation = uuid4(), UUID(asked["conversation_id"])
        most = MAX_PROMPT_TOKENS + asked["max_tokens"]
        row = (answer_id, tenant, user, conversation, most, asked["message"])
        if not await self._reserving.do(row):
            await _respond(send, 402, b"{}")
            return
        request = self._request(claims, answer_id, asked)
        if asked.get("stream"):
            async with request.streamed_read_buffer_limit(0).build_streamed() as response:
                done = await _pass_on(response.body_reader, send)
            await self._settle(answer_id, done)
            await send({"type": "http.response.body", "body": b""})
            return
        response = await request.build().send()
        done = done_of(bytes(await response.bytes()))
        await self._settle(answer_id, done)
        answer = {"id": answer_id, "message": {"role": "assistant", "content": done["content"]}}
        told = {**done, **answer, "conversation_id": conversation}
        await _respond(send, 200, orjson.dumps(told))

    async def _settle(self, answer_id: UUID, done: dict[str, Any]) -> None:
        usage = done["usage"]
        tokens = (usage["prompt_tokens"], usage["completion_tokens"])
        payload = orjson.dumps({"content": done["content"], "citations": done["citations"]})
        await self._settling.do((answer_id, done["model"], *tokens, payload.decode()))

    def _claims(self, scope: Any) -> dict[str, Any]:
        token = next(value for name, value in scope["headers"] if name == b"authorization")[7:]
        digest = sha256(token).digest()
        claims = self._verified.get(digest)
        if claims is None or claims["exp"] <= time.time():
            claims = self._verified[digest] = self._place.verified(token.decode())
        return claims

    def _request(self, claims: dict[str, Any], answer_id: UUID, asked: Any) -> RequestBuilder:
        now = int(time.time())
        said = {"sub": claims["sub"], "tenant": claims["tenant"], "iat": now, "exp": now + 60}
        signed = _HEADER + b"." + urlsafe_b64encode(orjson.dumps(said)).rstrip(b"=")
        signature = hmac.digest(self._place.upstream_secret.encode(), signed, "sha256")
        token = signed + b"." + urlsafe_b64encode(signature).rstrip(b"=")
        return (
            self._client.post(self._place.upstream_url)
            .bearer_auth(token.decode())
            .header("content-type", "application/json")
            .body_bytes(orjson.dumps({**asked, "answer_id": answer_id}))
        )

    async def _limit_all(self, calls: list[list[str]]) -> list[int]:
        async with self._redis.pipeline(transaction=False) as together:
            for keys in calls:
                together.evalsha(self._digest, len(keys), *keys, *LIMITS)
            found: list[int] = await together.execute()
        return found

    async def _reserve_all(self, rows: list[tuple[Any, ...]]) -> list[bool]:
        found = await self._pool.fetch(RESERVE, *map(list, zip(*rows, strict=True)))
        paid = {row["id"] for row in found}
        return [row[0] in paid for row in rows]

    async def _settle_all(self, rows: list[tuple[Any, ...]]) -> list[None]:
        await self._pool.execute(SETTLE, *map(list, zip(*rows, strict=True)))
        return [None] * len(rows)


async def _nothing(_: Any) -> None:
    """Reset no connection: no statement leaves anything in a session."""


async def _body(receive: Any) -> bytes:
    message = await receive()
    body: bytes = message["body"]
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    return body


async def _pass_on(upstream: ResponseBodyReader, send: Any) -> dict[str, Any]:
    """Send what comes, as it comes, and return its last event."""
    await send({"type": "http.response.start", "status": 200, "headers": [_EVENTS]})
    last: list[bytes] = []
    while chunk := await upstream.read_chunk():
        last = [*last[-1:], bytes(chunk)]  # the last event may begin in the chunk before
        await send({"type": "http.response.body", "body": last[-1], "more_body": True})
    return done_of(b"".join(last))


async def _respond(send: Any, status: int, body: bytes) -> None:
    headers = [_JSON, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main() -> None:
    """Serve."""
    place = Place.read()
    serve(Bare(place), place.port)


if __name__ == "__main__":
    main()
