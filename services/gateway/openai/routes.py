"""`/v1`: OpenAI's API."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from services.gateway.auth.dependencies import AnyCaller, Asker, Searcher
from services.gateway.chat.answers import Answer
from services.gateway.chat.asking import EVENT_STREAM, NOT_KEPT, client_left
from services.gateway.dependencies import EmbeddingServiceDep, OpenAIApiDep
from services.gateway.idempotency.dependencies import REPLAYED, Idempotent
from services.gateway.openai.completions import chunks_of, completion_of
from services.gateway.openai.schemas import (
    Completion,
    CompletionRequest,
    Embeddings,
    EmbeddingsRequest,
    Model,
    Models,
)
from services.gateway.problems import problem_responses

router = APIRouter(prefix="/v1", tags=["OpenAI"])


class CompletionStream(StreamingResponse):
    """The chunks of an answer; however the response ends, the answer ends with it."""

    def __init__(self, chunks: AsyncIterator[bytes], answer: Answer | None) -> None:
        """Store the chunks and the answer that they are of, if it is under way."""
        headers = NOT_KEPT if answer is not None else NOT_KEPT | REPLAYED
        super().__init__(chunks, media_type=EVENT_STREAM, headers=headers)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the chunks; a client that hangs up stops the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._answer is not None:
                self._answer.stop()


@router.post(
    "/chat/completions",
    summary="Ask, as OpenAI's clients do",
    response_model=Completion,
    responses={
        200: {
            "description": "The whole answer, or with `stream: true` its chunks and `[DONE]`.",
            "content": {EVENT_STREAM: {}},
        },
        **problem_responses(400, 401, 402, 404, 409),
    },
)
async def post_completion(
    request: CompletionRequest,
    account: Asker,
    openai: OpenAIApiDep,
    repeatable: Idempotent,
    http: Request,
) -> Response | Completion:
    """Answer the last message from the tenant's documents, with the others in mind.

    Citations stand in the message, and in the last chunk of a stream.
    """
    async with repeatable.attempt(account.context, request) as effect:
        if request.stream:
            events, answer = await openai.stream(account, request, effect)
            chunks = chunks_of(events, with_usage=request.wants_usage)
            return CompletionStream(chunks, answer)
        completion = completion_of(
            await openai.whole(account, request, effect, partial(client_left, http))
        )
        if effect.answered is not None:
            body = completion.model_dump_json()
            return Response(body, headers=REPLAYED, media_type="application/json")
        return completion


@router.post(
    "/embeddings",
    summary="Turn texts into vectors",
    response_model=Embeddings,
    responses=problem_responses(400, 401, 402, 404, 409),
)
async def post_embeddings(
    request: EmbeddingsRequest,
    account: Searcher,
    embeddings: EmbeddingServiceDep,
    repeatable: Idempotent,
) -> Response:
    """Turn texts into vectors with the model that search uses; tokens are billed as usage."""
    async with repeatable.attempt(account.context, request) as effect:
        answer = await embeddings.embed(account, request, effect)
    body = await asyncio.to_thread(answer.model_dump_json)  # of megabytes
    return Response(body, media_type="application/json")


@router.get("/models", summary="List models", responses=problem_responses(401))
async def get_models(_: AnyCaller, openai: OpenAIApiDep) -> Models:
    """List the models that answer; `polyplane` is whichever the operator has chosen."""
    return openai.models()


@router.get(
    "/models/{model:path}", summary="Get a model", responses=problem_responses(400, 401, 404)
)
async def get_model(model: str, _: AnyCaller, openai: OpenAIApiDep) -> Model:
    """Get a model by its name."""
    return openai.model(model)
