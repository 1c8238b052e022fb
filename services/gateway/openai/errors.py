"""Errors below `/v1/` in the shape that OpenAI's clients read.

A layer around the application makes them of its problem details, so that they are alike wherever
they come from: a route, a limit, a body that is too large, a process that is about to end.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
from pydantic import BaseModel, Field
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planes.shared.errors import NotFound
from services.gateway.problems import PROBLEM_JSON

PREFIX = "/v1/"
_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_CODES = {
    "unauthenticated": "invalid_api_key",
    "quota-exceeded": "insufficient_quota",
    "rate-limited": "rate_limit_exceeded",
}
_URN = "urn:polyplane:problem:"


class ModelNotFound(NotFound):
    """A model that does not answer here."""

    code = "model-not-found"


def no_model(name: str) -> ModelNotFound:
    """Return the problem of a model that is not here, or not for this."""
    return ModelNotFound(
        f"There is no model '{name[:100]}' for this. GET /v1/models lists those that are here.",
        extensions={"param": "model"},
    )


class OpenAIError(BaseModel):
    """What went wrong."""

    message: str = Field(examples=["There is no model 'gpt-5' here."])
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(description="The field that is wrong.", examples=["model"])
    code: str | None = Field(examples=["model_not_found"])
    trace_id: str = Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])


class OpenAIErrorAnswer(BaseModel):
    """An error as OpenAI's clients read it."""

    error: OpenAIError


def error_of(problem: Mapping[str, Any]) -> OpenAIErrorAnswer:
    """Return a problem's members (RFC 9457) as an error of OpenAI's API."""
    status, code = problem["status"], problem["type"].removeprefix(_URN)
    fields = problem.get("errors") or [{}]
    return OpenAIErrorAnswer(
        error=OpenAIError(
            message=problem["detail"],
            type=_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error"),
            param=problem.get("param") or param_of(fields[0].get("pointer", "")),
            code=_CODES.get(code, code.replace("-", "_")),
            trace_id=problem.get("trace_id", ""),
        )
    )


def status_of(problem: Mapping[str, Any]) -> int:
    """Return the status of a problem: what OpenAI calls a bad request is no 422."""
    return 400 if problem["status"] == 422 else int(problem["status"])


def param_of(pointer: str) -> str | None:
    """Return a JSON pointer into the body as `messages[0].content`; None for the whole body."""
    path = pointer.removeprefix("/body").removeprefix("/").replace("/", ".")
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path) or None


class OpenAIErrorsMiddleware:
    """Writes problems anew where the path is one of OpenAI's API."""

    def __init__(self, app: ASGIApp) -> None:
        """Store the application below."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not f"{scope['path']}/".startswith(PREFIX):
            await self._app(scope, receive, send)
            return
        head: Message | None = None
        body = b""

        async def send_shaped(message: Message) -> None:
            nonlocal head, body
            if message["type"] == "http.response.start" and _is_problem(message):
                head = message
            elif head is None:
                await send(message)
            else:
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    await _send_error(send, head, body)

        await self._app(scope, receive, send_shaped)


def _is_problem(head: Message) -> bool:
    content_type = MutableHeaders(scope=head).get("content-type", "")
    return content_type.startswith(PROBLEM_JSON)


async def _send_error(send: Send, head: Message, problem: bytes) -> None:
    if not problem:  # the answer to HEAD
        await send(head)
        await send({"type": "http.response.body", "body": b""})
        return
    told = orjson.loads(problem)
    body = error_of(told).model_dump_json().encode()
    headers = MutableHeaders(scope=head)
    headers["content-type"] = "application/json"
    headers["content-length"] = str(len(body))
    await send({**head, "status": status_of(told)})
    await send({"type": "http.response.body", "body": body})


def add_openai_errors(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document that problems below `/v1/` have another shape."""
    schema = OpenAIErrorAnswer.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = document["components"]["schemas"]
    schemas.update(schema.pop("$defs"))
    schemas["OpenAIErrorAnswer"] = schema
    for path, operations in document["paths"].items():
        if path.startswith(PREFIX):
            for operation in operations.values():
                operation["responses"] = _with_errors(operation["responses"])


def _with_errors(responses: dict[str, Any]) -> dict[str, Any]:
    shape = {"schema": {"$ref": "#/components/schemas/OpenAIErrorAnswer"}}
    told: dict[str, Any] = {}
    for status, response in responses.items():
        if int(status) < 400:
            told[status] = response
        else:
            status_told = "400" if status == "422" else status
            told.setdefault(
                status_told,
                {
                    "description": response["description"],
                    "content": {"application/json": shape},
                },
            )
    return dict(sorted(told.items()))
