"""`/v1`: OpenAI's API."""

import asyncio

from fastapi.responses import Response

from services.gateway.auth.dependencies import AnyCaller, Asker, Searcher
from services.gateway.chat.answers import Answer
from services.gateway.chat.asking import EVENT_STREAM, AnswerStream, Asking, FollowedStream
from services.gateway.chat.replays import events_of, one_by_one
from services.gateway.dependencies import EmbeddingServiceDep, OpenAIApiDep
from services.gateway.idempotency.dependencies import REPLAYED, Idempotent
from services.gateway.idempotency.service import Replayed
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
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/v1", tags=["OpenAI"])


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
    asking: Asking,
) -> Response | Completion:
    """Answer the last message from the tenant's documents, with the others in mind.

    Citations stand in the message, and in the last chunk of a stream.
    """
    async with asking.attempt(account, request) as effect:
        if request.stream:
            answer = await openai.stream(account, request, effect)
            if isinstance(answer, Answer):
                chunks = chunks_of(asking.heard(answer), with_usage=request.wants_usage)
                return AnswerStream(chunks, answer)
            chunks = chunks_of(one_by_one(events_of(answer)), with_usage=request.wants_usage)
            return FollowedStream(chunks, REPLAYED)
        completion = completion_of(await openai.whole(account, request, effect, asking.client_left))
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
    headers: dict[str, str] = {}
    try:
        async with repeatable.attempt(account.context, request) as effect:
            answer = await embeddings.embed(account, request, effect)
    except Replayed as replayed:
        answer = await embeddings.embed_again(account, request, replayed.response)
        headers = REPLAYED
    body = await asyncio.to_thread(answer.model_dump_json)  # of megabytes
    return Response(body, headers=headers, media_type="application/json")


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
