"""`POST /chat` in front of the framework: the one path on which most of the gateway's time goes.

The application's layers are made for every request there is: each wraps what comes and goes in a
function of its own, and the innermost, FastAPI, tries one route after the other, solves each
dependency by generic code and builds a stack of contexts around the endpoint. Together that costs
several times what a chat needs besides. Here, before all of that, a request that is plainly good
gets in a straight line what the layers would do for it, and the same service is asked.

Whatever is not plainly good - a field that is there twice, a coding, a body that comes in parts or
is too large, no JSON of the declared route's model - is handed on as it came, and the layers and
the declared route say what is wrong with it: the document, the validation and the errors are
theirs. Tests ask both ways and compare.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias, cast

import orjson
from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planes.shared.errors import Unavailable
from services.gateway.admin.drain import RESTARTING, Drain
from services.gateway.auth.dependencies import MAY_ASK, token_of
from services.gateway.body_limit import next_part
from services.gateway.chat.asking import EVENT_STREAM, ChatAsking
from services.gateway.chat.schemas import ChatAnswer, ChatRequest
from services.gateway.http_rules import PROTECTING
from services.gateway.idempotency.dependencies import KEY_HEADER, Repeatable
from services.gateway.idempotency.keys import parse_key
from services.gateway.limits.headers import RATE_STATE
from services.gateway.problems import problem_response, unexpected_response
from services.gateway.settings import GatewaySettings
from services.gateway.tracing import RequestLog, begin_request

_REQUEST = TypeAdapter(ChatRequest)
_CODED = frozenset({b"content-encoding", b"transfer-encoding"})
_KEY_HEADER = KEY_HEADER.lower().encode()
_JSON = (b"content-type", b"application/json")
_Headers: TypeAlias = list[tuple[bytes, bytes]]
_Fields: TypeAlias = Mapping[bytes, bytes]
_Handler: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]


class BareChatRoute:
    """Stands before all layers: answers questions itself, and leaves all else to them."""

    def __init__(
        self, app: FastAPI, layers: ASGIApp, *, declared: Mapping[str, BaseRoute], log: RequestLog
    ) -> None:
        """Store the parts.

        Args:
            app: The application; its state holds settings and services.
            layers: What answers all other requests.
            declared: The declared routes of the paths at which one asks.
            log: Where requests are counted and logged.
        """
        settings: GatewaySettings = app.state.settings
        self._app = app
        self._layers = layers
        self._declared = declared
        self._log = log
        self._drain: Drain = app.state.drain
        self._max_body_bytes = settings.max_body_bytes
        self._idle_s = settings.body_idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._declared.get(scope["path"]) if scope["type"] == "http" else None
        fields = self._plain(scope) if route is not None else None
        if fields is None:
            await self._layers(scope, receive, send)
            return
        started = time.perf_counter()
        question = await self._question(scope, receive, send)
        if question is None:
            return
        scope["app"], scope["route"] = self._app, route
        scope.setdefault("state", {})
        status = 0

        async def send_head(head: Message) -> None:
            nonlocal status
            if not status:
                status = head["status"]
                head["headers"] = self._headers(scope, trace_id, head["headers"])
            await send(head)

        trace_id = begin_request(scope, _text(fields, b"traceparent"))
        try:
            answer = await self._answer(scope, receive, fields, question)
            if isinstance(answer, ChatAnswer):
                body = answer.model_dump_json().encode()
                length = (b"content-length", b"%d" % len(body))
                await send_head(
                    {"type": "http.response.start", "status": 200, "headers": [length, _JSON]}
                )
                await send({"type": "http.response.body", "body": body})
            else:
                await answer(scope, receive, send_head)
        except asyncio.CancelledError:  # the process is about to end
            if status or not self._drain.is_on:
                raise
            await problem_response(Unavailable(RESTARTING))(scope, receive, send_head)
        except Exception as error:
            response = unexpected_response(error)  # which logs it
            if status:
                raise
            await response(scope, receive, send_head)
        finally:
            self._log.answered(scope, trace_id, status, started)

    async def _question(self, scope: Scope, receive: Receive, send: Send) -> ChatRequest | None:
        """Return what a request asks; None: the layers have answered it."""
        try:
            message = await next_part(receive, self._idle_s)
        except (HTTPException, asyncio.CancelledError) as error:
            await self._layers(scope, _raising(error), send)
            return None
        question = _question(message)
        if question is None:
            await self._layers(scope, _again(message, receive), send)
        return question

    def _plain(self, scope: Scope) -> _Fields | None:
        """Return a request's fields; None: it is not plainly good."""
        fields = dict[bytes, bytes](scope["headers"])
        is_plain = (
            scope["method"] == "POST"
            and len(fields) == len(scope["headers"])
            and b"host" in fields
            and fields.get(b"content-type") == b"application/json"
            and (length := fields.get(b"content-length", b"0")).isdigit()
            and int(length) <= self._max_body_bytes
            and _CODED.isdisjoint(fields)
        )
        return fields if is_plain else None

    async def _answer(
        self, scope: Scope, receive: Receive, fields: _Fields, question: ChatRequest
    ) -> Response | ChatAnswer:
        """Do what the declared route does with its dependencies, and its errors' handlers."""
        services = self._app.state
        try:
            token = token_of(_text(fields, b"authorization"))
            account = await MAY_ASK.admit(services.identity, token, scope["state"])
            key = parse_key([_text(fields, _KEY_HEADER)] if _KEY_HEADER in fields else [])
            repeatable = Repeatable(services.idempotency, key, _target(scope) if key else "")
            asking = ChatAsking(
                services,
                repeatable,
                receive,
                wants_events=EVENT_STREAM in _text(fields, b"accept"),
            )
            return await asking.answer(account, question, question.conversation_id)
        except Exception as error:
            return await self._handled(Request(scope, receive), error)

    async def _handled(self, request: Request, error: Exception) -> Response:
        """Return the answer of the handler that the application has for an error."""
        handlers = cast("Mapping[Any, _Handler]", self._app.exception_handlers)
        for kind in type(error).__mro__:
            if kind in handlers:
                return await handlers[kind](request, error)
        return unexpected_response(error)

    def _headers(self, scope: Scope, trace_id: str, own: _Headers) -> _Headers:
        """Return an answer's own fields with those that the layers add."""
        headers = [*own, *PROTECTING, (b"x-request-id", trace_id.encode())]
        names = {name for name, _ in own}
        if not names.isdisjoint({b"cache-control", b"x-content-type-options"}):
            headers = [*own, *(each for each in PROTECTING if each[0] not in names), headers[-1]]
        rates = scope["state"].get(RATE_STATE)
        if rates is not None:
            headers += [(name.encode(), value.encode()) for name, value in rates.headers().items()]
        if self._drain.is_on:
            headers.append((b"connection", b"close"))
        return headers


def _text(fields: _Fields, name: bytes) -> str:
    return fields.get(name, b"").decode("latin-1")


def _target(scope: Scope) -> str:
    return f"POST {scope['path']}?{scope['query_string'].decode('latin-1')}"


def _again(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that begins with what was received already."""
    left = [first]

    async def receive_again() -> Message:
        return left.pop() if left else await receive()

    return receive_again


def _raising(error: BaseException) -> Receive:
    """Return a `receive` that says why nothing comes."""

    async def receive_nothing() -> Message:
        raise error

    return receive_nothing


def _question(message: Message) -> ChatRequest | None:
    """Return what a request asks; None: it is not whole, or not plainly JSON of the model."""
    if message["type"] != "http.request" or message.get("more_body", False):
        return None
    try:
        return _REQUEST.validate_python(orjson.loads(message.get("body", b"")))
    except (ValueError, ValidationError):
        return None
