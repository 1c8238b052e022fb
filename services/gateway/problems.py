"""Errors as RFC 9457 problem details, from one exception tree."""

from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from planes.shared import errors
from planes.shared.errors import PlatformError
from services.gateway.tracing import current_trace_id

PROBLEM_JSON = "application/problem+json"
_log = structlog.get_logger(__name__)
_by_status = {
    kind.status: kind
    for kind in (
        errors.BadRequest,
        errors.Unauthenticated,
        errors.QuotaExceeded,
        errors.Forbidden,
        errors.NotFound,
        errors.RequestTimeout,
        errors.Conflict,
        errors.Gone,
        errors.ContentTooLarge,
        errors.UnsupportedMediaType,
        errors.InvalidInput,
        errors.TooManyRequests,
        errors.Unavailable,
    )
}


_IN_OUR_WORDS = {
    "missing": "This field is required",
    "extra_forbidden": "There is no such field",
    "json_invalid": "This is not JSON",
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
    "model_attributes_type": "Input should be an object",
    "list_type": "Input should be an array",
    "uuid_parsing": "Input should be a UUID",
    "uuid_type": "Input should be a UUID",
}
_NOWHERE = "There is nothing at this path. The paths are listed at /docs and in /openapi.json."


class FieldProblem(BaseModel):
    """One field that is wrong."""

    pointer: str = Field(description="JSON pointer (RFC 6901)", examples=["/body/message"])
    detail: str


class Problem(BaseModel):
    """What went wrong, for people and for programs (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:polyplane:problem:not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no such document."])
    trace_id: str = Field(examples=["4bf92f3577b34da6a3ce929d0e0e4736"])
    errors: list[FieldProblem] | None = None


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` for the problems that a route may answer with.

    Every route also gets the platform-wide ones: 422, 429 and 503.
    """
    return {
        status: {
            "description": _by_status[status].title,
            "content": {
                PROBLEM_JSON: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(_by_status[status]),
                }
            },
        }
        for status in sorted({*statuses, 422, 429, 503})
    }


def _example(kind: type[PlatformError]) -> dict[str, object]:
    return {
        "type": kind("").type,
        "title": kind.title,
        "status": kind.status,
        "detail": f"{kind.title}: this sentence says what is wrong and what to do.",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }


def problem_document(error: PlatformError) -> dict[str, object]:
    """Return the members of one problem."""
    return {
        "type": error.type,
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "trace_id": current_trace_id(),
        **error.extensions,
    }


def problem_response(error: PlatformError) -> Response:
    """Return the HTTP answer of one problem."""
    headers = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    headers |= error.headers
    body = Problem.model_validate(problem_document(error)).model_dump_json(exclude_none=True)
    return Response(body, error.status, headers, PROBLEM_JSON)


def install(app: FastAPI) -> None:
    """Make every failure of `app` a problem."""
    app.add_exception_handler(PlatformError, _on_platform_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_platform_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, PlatformError)  # noqa: S101 (registered for this type)
    return problem_response(error)


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 (likewise)
    fields = [
        {"pointer": _pointer(item, error.body), "detail": _in_our_words(item)}
        for item in error.errors()
        if item["type"] != "none_required"  # null would do as well: said of every optional field
    ]
    is_json = not any(item["type"] == "json_invalid" for item in error.errors())
    kind = errors.InvalidInput if is_json else errors.BadRequest
    detail = "; ".join(f"{field['pointer']}: {field['detail']}" for field in fields[:3])
    return problem_response(kind(detail, extensions={"errors": fields}))


def _pointer(item: dict[str, Any], body: Any) -> str:
    """Return where the flaw is (RFC 6901), without the names of the types that were tried there."""
    source, *rest = item["loc"]
    parts, value = [source], body if source == "body" else dict.fromkeys(rest[:1])
    for part in rest:
        is_member = isinstance(value, Mapping) and part in value
        is_place = isinstance(value, list) and isinstance(part, int)
        if is_member or is_place:
            parts.append(part)
            value = value[part]
    if item["type"] == "missing" and rest:
        parts.append(rest[-1])
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _in_our_words(item: dict[str, Any]) -> str:
    """Say what is wrong with a field without words of the library that found it."""
    kind, context = item["type"], item.get("ctx", {})
    if kind in {"too_long", "too_short"}:
        word = "most" if kind == "too_long" else "least"
        bound = context.get("max_length", context.get("min_length"))
        what = "characters" if isinstance(item["input"], str) else "items"
        return f"Takes at {word} {bound} {what}, not {context.get('actual_length')}"
    if kind in _IN_OUR_WORDS:
        return _IN_OUR_WORDS[kind]
    return str(item["msg"]).removeprefix("Value error, ")


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (likewise)
    if error.status_code == 405:
        return _other_method(request)
    is_nowhere = error.status_code == 404 and error.detail == "Not Found"  # the router's words
    problem = PlatformError(_NOWHERE if is_nowhere else error.detail)
    problem.status = error.status_code
    kind = _by_status.get(error.status_code)
    problem.title = kind.title if kind else error.detail
    problem.code = kind.code if kind else "-".join(error.detail.lower().split())
    problem.headers = dict(error.headers or {})
    return problem_response(problem)


def _other_method(request: Request) -> Response:
    """Answer OPTIONS, and refuse other methods; both name all that the path has (RFC 9110)."""
    path = request.scope["path"]
    matching = [
        route
        for route in iter_route_contexts(request.app.routes)
        if route.methods and route.path and route.path_regex.match(path)
    ]
    fewest = min(len(route.param_convertors) for route in matching)  # a name before `{id}`
    allowed = {"OPTIONS"}.union(
        *(route.methods or () for route in matching if len(route.param_convertors) == fewest)
    )
    if "GET" in allowed:
        allowed.add("HEAD")  # HttpRulesMiddleware
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"allow": ", ".join(sorted(allowed))})
    problem = PlatformError(f"This path answers to {', '.join(sorted(allowed))}.")
    problem.status, problem.code, problem.title = 405, "method-not-allowed", "Method not allowed"
    problem.headers = {"allow": ", ".join(sorted(allowed))}
    return problem_response(problem)


def unexpected_response(error: Exception) -> Response:
    """Log an error outside the tree and return an answer that says nothing about it."""
    _log.error("unexpected error", exc_info=error, trace_id=current_trace_id())
    return problem_response(
        PlatformError("Something went wrong on our side; the trace id finds it.")
    )


def add_problem_schema(document: dict[str, Any]) -> dict[str, Any]:
    """Put the `Problem` schema into an OpenAPI document."""
    schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    definitions = schema.pop("$defs", {})
    document.setdefault("components", {}).setdefault("schemas", {}).update(
        {"Problem": schema, **definitions}
    )
    return document
