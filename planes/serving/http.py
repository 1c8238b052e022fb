"""The plane's calls over HTTP, as `planes.shared.wire` describes them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from planes.serving.caches.lookups import begin_lookups, lookups_so_far
from planes.serving.events import answer_events, problem_of, search_scope
from planes.serving.frames import Frames
from planes.serving.plane import Plane
from planes.serving.tracing import span
from planes.shared.domain import Passage
from planes.shared.errors import BadRequest, InvalidInput, PlatformError, Unauthenticated
from planes.shared.telemetry import trace_id_of
from planes.shared.wire import (
    WIRE_HEADER,
    WIRE_VERSION,
    AnswerRequest,
    EmbedRequest,
    EmbedResponse,
    PassageOut,
    SearchRequest,
    SearchResponse,
    ServingClaims,
    ServingHealth,
)

_log = structlog.get_logger(__name__)
router = APIRouter()


def create_app(plane: Plane) -> FastAPI:
    """Return the application; its lifespan opens and closes the plane."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await plane.open()
        _log.info("generator chosen", **plane.choice.status.model_dump())
        yield
        await plane.close()

    app = FastAPI(title="Polyplane serving plane", lifespan=lifespan, openapi_url=None)
    app.state.plane = plane
    app.include_router(router)
    app.add_exception_handler(PlatformError, _platform_problem)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unexpected)
    return app


async def _plane(request: Request) -> Plane:  # not in a thread, which costs more than it does
    plane: Plane = request.app.state.plane
    return plane


PlaneDep = Annotated[Plane, Depends(_plane)]


async def _claims(request: Request, plane: PlaneDep) -> ServingClaims:
    """Return who asks, after the wire's version was checked.

    Raises:
        BadRequest: The caller speaks another version of the wire.
        Unauthenticated: There is no valid token of the gateway.
    """
    if request.headers.get(WIRE_HEADER) != WIRE_VERSION:
        raise BadRequest(f"The header {WIRE_HEADER} must be {WIRE_VERSION}.")
    claims = plane.tokens.verify(_token(request))
    traceparent = request.headers.get("traceparent")
    structlog.contextvars.bind_contextvars(
        request_id=claims.request_id,
        tenant_id=str(claims.context.tenant_id),
        trace_id=trace_id_of(traceparent),
    )
    plane.tracing.begin(traceparent)
    return claims


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("The request does not carry the gateway's token.")
    return token


ClaimsDep = Annotated[ServingClaims, Depends(_claims)]


@router.post("/v1/answer")
async def post_answer(body: AnswerRequest, claims: ClaimsDep, plane: PlaneDep) -> Frames:
    """Answer with server-sent events; headers and `meta` go out before any work."""
    plane.check(body)
    events = answer_events(plane.agent, body, claims.context, admission=plane.admission)
    first = await anext(events)  # where there is no place, the refusal still has a status
    return Frames(first, events)


@router.post("/v1/search")
async def post_search(body: SearchRequest, claims: ClaimsDep, plane: PlaneDep) -> SearchResponse:
    """Return the best passages without an answer."""
    begin_lookups()
    scope = search_scope(body.scope, claims.context)
    with span("search", tenant_id=str(claims.context.tenant_id)):
        found = await plane.retriever.retrieve(body.query, scope=scope, k=body.top_k)
    passages = tuple(_shown(passage) for passage in found.passages)
    return SearchResponse(passages=passages, caches=lookups_so_far())


@router.post("/v1/embed")
async def post_embed(body: EmbedRequest, _: ClaimsDep, plane: PlaneDep) -> EmbedResponse:
    """Return the vectors of texts."""
    return await plane.texts.embed(body)


@router.get("/v1/health")
async def get_health(request: Request, plane: PlaneDep) -> JSONResponse:
    """Tell how each part does: 200, or 503 where a part that answers need is down.

    Who sends a token learns also whether this is the plane that takes it; 401 if not.
    """
    if "authorization" in request.headers:
        plane.tokens.verify(_token(request))
    health: ServingHealth = await plane.health()
    status = 503 if health.status == "unavailable" else 200
    return JSONResponse(health.model_dump(mode="json"), status)


def _shown(passage: Passage) -> PassageOut:
    chunk = passage.chunk
    return PassageOut(
        document_id=chunk.document_id,
        document_name=passage.document_name,
        version=passage.version,
        page=chunk.page,
        heading=chunk.heading,
        start=chunk.start,
        end=chunk.end,
        text=chunk.text,
        score=passage.score,
    )


def _problem(error: PlatformError) -> JSONResponse:
    headers = {"retry-after": str(error.retry_after_s)} if error.retry_after_s else None
    return JSONResponse(
        problem_of(error).model_dump(mode="json"),
        error.status,
        headers=headers,
        media_type="application/problem+json",
    )


async def _platform_problem(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, PlatformError):
        raise error
    return _problem(error)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    fields = error.errors() if isinstance(error, RequestValidationError) else []
    places = ", ".join(".".join(map(str, field["loc"])) for field in fields)
    return _problem(InvalidInput(f"The request does not fit the wire: {places}."))


async def _unexpected(_: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", exc_info=error)
    return _problem(PlatformError("The request failed on our side."))
