"""A serving plane for tests: real HTTP and the real wire, with answers that the test scripts."""

import asyncio
import struct
from base64 import b64encode
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from planes.shared.domain import FinishReason
from planes.shared.errors import Unauthenticated
from planes.shared.wire import (
    WIRE_VERSION,
    AnswerRequest,
    CacheLookup,
    CitationOut,
    Done,
    EmbedRequest,
    EmbedResponse,
    GeneratorStatus,
    Meta,
    Problem,
    SearchRequest,
    SearchResponse,
    ServingHealth,
    ServingTokens,
    TextSpan,
    Usage,
    encode_event,
)

TOKEN_SECRET = "a-secret-between-gateway-and-plane-0123456789"


@dataclass
class FakePlane:
    """What the plane says; `asked` keeps the requests that it got."""

    words: list[str] = field(default_factory=lambda: ["Two", " years", " [1]."])
    citations: list[CitationOut] = field(default_factory=list)
    unsupported: list[TextSpan] = field(default_factory=list)
    summary: tuple[str, int] | None = None
    kind: str = "openai"
    model: str = "test-model"
    prompt_tokens: int = 40
    secret: str = TOKEN_SECRET
    pause_s: float = 0.0
    longest_text: int = 256
    thoughts: int = 0
    ends_with: str = "done"
    hold: asyncio.Event | None = None
    caches: tuple[CacheLookup, ...] = ()
    asked: list[AnswerRequest] = field(default_factory=list)
    traceparents: list[str] = field(default_factory=list)
    searched: list[SearchRequest] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    def app(self) -> Starlette:
        """Return the plane as an ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/health", self._health),
                Route("/v1/answer", self._answer, methods=["POST"]),
                Route("/v1/search", self._search, methods=["POST"]),
                Route("/v1/embed", self._embed, methods=["POST"]),
            ],
            exception_handlers={Unauthenticated: _refused},
        )

    async def _health(self, _: Request) -> Response:
        generator = GeneratorStatus(kind=self.kind, model=self.model, reason="the test says so")  # type: ignore[arg-type]
        parts = {"generator": "ok", "embedder": "ok", "database": "ok"}
        health = ServingHealth(
            wire=WIRE_VERSION,
            status="ok",
            generator=generator,
            embedding_model="test-embedder",
            parts=parts,
        )
        return JSONResponse(health.model_dump(mode="json"))

    async def _search(self, request: Request) -> Response:
        self._claims(request)
        self.searched.append(SearchRequest.model_validate_json(await request.body()))
        return JSONResponse(SearchResponse(passages=(), caches=self.caches).model_dump(mode="json"))

    async def _embed(self, request: Request) -> Response:
        """Embed in one dimension: a text's number of words, which are its tokens too."""
        self._claims(request)
        asked = EmbedRequest.model_validate_json(await request.body())
        lengths = [len(text.split()) for text in asked.texts]
        if max(lengths) > self.longest_text:
            problem = Problem(
                code="invalid-input", title="Invalid input", status=422, detail="Too long."
            )
            return JSONResponse(problem.model_dump(mode="json"), 422)
        if self.hold is not None:
            await self.hold.wait()
        vectors = tuple(b64encode(struct.pack("<f", length)).decode() for length in lengths)
        told = EmbedResponse(model="test-embedder", tokens=sum(lengths), vectors=vectors)
        return JSONResponse(told.model_dump(mode="json"))

    async def _answer(self, request: Request) -> Response:
        self._claims(request)
        asked = AnswerRequest.model_validate_json(await request.body())
        self.asked.append(asked)
        return StreamingResponse(self._events(asked), media_type="text/event-stream")

    def _claims(self, request: Request) -> None:
        self.traceparents.append(request.headers["traceparent"])
        token = request.headers["authorization"].removeprefix("Bearer ")
        ServingTokens(self.secret).verify(token)

    async def _events(self, asked: AnswerRequest) -> AsyncIterator[bytes]:
        number = 1
        meta = Meta(
            id=asked.answer_id,
            conversation_id=asked.conversation_id,
            model=self.model,
            mode=asked.mode,
        )
        try:
            yield encode_event("meta", meta, event_id=number)
            for _ in range(self.thoughts):
                await asyncio.sleep(self.pause_s)
                number += 1
                yield encode_event("step", {"name": "think"}, event_id=number)
            for count, word in enumerate(self.words, start=1):
                await asyncio.sleep(self.pause_s)
                number += 2
                yield encode_event("delta", {"text": word}, event_id=number - 1)
                usage = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=count)
                yield encode_event("usage", usage, event_id=number)
            if self.hold is not None:
                await self.hold.wait()
            for citation in self.citations:
                number += 1
                yield encode_event("citation", citation, event_id=number)
            if self.ends_with == "done":
                number += 1
                total = Usage(prompt_tokens=self.prompt_tokens, completion_tokens=len(self.words))
                yield encode_event("usage", total, event_id=number)  # again, as the real one does
            yield self._last(number + 1)
        except (asyncio.CancelledError, GeneratorExit):
            self.hung_up.set()
            raise

    def _last(self, number: int) -> bytes:
        if self.ends_with == "error":
            problem = Problem(
                code="unavailable", title="Service unavailable", status=503, detail="No model."
            )
            return encode_event("error", problem, event_id=number)
        if self.ends_with == "silence":
            return b""
        done = Done(
            content="".join(self.words),
            citations=tuple(self.citations),
            grounded=bool(self.citations),
            unsupported=tuple(self.unsupported),
            finish_reason=FinishReason.STOP,
            model=self.model,
            usage=Usage(prompt_tokens=self.prompt_tokens, completion_tokens=len(self.words)),
            caches=self.caches,
            summary=self.summary[0] if self.summary else None,
            summary_seq=self.summary[1] if self.summary else 0,
        )
        return encode_event("done", done, event_id=number)


async def _refused(_: Request, error: Exception) -> Response:
    problem = Problem(code="unauthenticated", title="No", status=401, detail=str(error))
    return JSONResponse(problem.model_dump(mode="json"), 401)
