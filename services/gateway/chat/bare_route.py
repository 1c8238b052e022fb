"""`POST /chat` without the framework: the one path on which most of the gateway's time is spent.

FastAPI tries one route after the other until one fits, solves each dependency by generic code and
builds a stack of contexts around the endpoint; that costs several times what a chat needs besides.
Here the path is looked up, the body is validated by the model that the declared route has, and the
same service is asked. Whatever is not plainly a good request is handed to the declared route as it
came, which alone says what is wrong with it: the document, the validation and the errors are its.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from fastapi.responses import Response
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.auth.dependencies import MAY_ASK, bearer_token
from services.gateway.chat.asking import ChatAsking
from services.gateway.chat.schemas import ChatAnswer, ChatRequest
from services.gateway.idempotency.dependencies import repeatable

_JSON = (b"content-type", b"application/json")
_REQUEST = TypeAdapter(ChatRequest)
_Handler: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]


class BareChatRoute:
    """The innermost layer: answers questions itself, and leaves all else to the application."""

    def __init__(self, app: ASGIApp, *, declared: Mapping[str, BaseRoute]) -> None:
        """Store the application, and the declared routes of the paths at which one asks."""
        self._app = app
        self._declared = declared

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        route = self._declared.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        request, messages = Request(scope, receive), list[Message]()
        response = None
        try:
            await _read(receive, messages)
            question = _question(scope, messages)
            if question is not None:
                scope["route"] = route  # for metrics and the access log
                response = await _answer(request, question)
        except Exception as error:
            response = await _handled(request, error)
        if response is None:
            await self._app(scope, _again(messages, receive), send)
        else:
            await response(scope, receive, send)


async def _read(receive: Receive, messages: list[Message]) -> None:
    """Add what a request's body comes in; a client that hangs up ends it."""
    messages.append(await receive())
    while messages[-1].get("more_body", False):
        messages.append(await receive())


def _again(messages: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that begins with what was received already."""
    left = iter(messages)

    async def receive_again() -> Message:
        for message in left:
            return message
        return await receive()

    return receive_again


def _question(scope: Scope, messages: list[Message]) -> ChatRequest | None:
    """Return what a request asks; None: it is not plainly JSON of the model."""
    if _JSON not in scope["headers"]:
        return None
    body = b"".join(message.get("body", b"") for message in messages)
    try:
        return _REQUEST.validate_python(json.loads(body))
    except (ValueError, ValidationError, RecursionError):
        return None


async def _answer(request: Request, question: ChatRequest) -> Response:
    """Do what the declared route does with its dependencies."""
    account = await MAY_ASK(request, bearer_token(request))
    asking = ChatAsking(request, repeatable(request))
    answer = await asking.answer(account, question, question.conversation_id)
    if isinstance(answer, ChatAnswer):
        return Response(answer.model_dump_json(), media_type="application/json")
    return answer


async def _handled(request: Request, error: Exception) -> Response:
    """Return the answer of the handler that the application has for an error."""
    handlers: Mapping[object, _Handler] = request.app.exception_handlers
    for kind in type(error).__mro__:
        if kind in handlers:
            return await handlers[kind](request, error)
    raise error
