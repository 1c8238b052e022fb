"""What the ways of asking share: whole or as events, once or again."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header
from fastapi.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from planes.shared.domain import ChatMode
from services.gateway.auth.models import Account
from services.gateway.chat.answers import Answer
from services.gateway.chat.replays import events_of
from services.gateway.chat.schemas import ChatAnswer, QueryAnswer, QueryRequest, Question
from services.gateway.chat.service import Asked
from services.gateway.dependencies import ChatServiceDep, ConversationServiceDep
from services.gateway.idempotency.dependencies import REPLAYED, Idempotent

EVENT_STREAM = "text/event-stream"
_NOT_KEPT = {"cache-control": "no-store", "x-accel-buffering": "no"}


class AnswerStream(StreamingResponse):
    """An answer's events; however the response ends, the answer ends with it."""

    def __init__(self, first: bytes, answer: Answer) -> None:
        """Store the first event and the answer whose others follow."""
        super().__init__(_events(first, answer), media_type=EVENT_STREAM, headers=_NOT_KEPT)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events; a client that hangs up stops the answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._answer.stop()


class _Asking:
    """Answers a question the way its client wants it."""

    def __init__(
        self,
        chat: ChatServiceDep,
        conversations: ConversationServiceDep,
        repeatable: Idempotent,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> None:
        """Store the services, the request's key, and what the client accepts."""
        self._chat = chat
        self._conversations = conversations
        self._repeatable = repeatable
        self._wants_events = EVENT_STREAM in accept

    async def answer(
        self, account: Account, question: Question, conversation_id: UUID | None
    ) -> Response | ChatAnswer:
        """Answer, or tell again what was answered; whole and as events are two requests."""
        context = account.context
        is_stream = question.stream or self._wants_events
        async with self._repeatable.attempt(context, question, stream=is_stream) as effect:
            if effect.answered is not None:
                told = await self._conversations.settled_answer(context, effect.answered)
                return _told_again(told, is_stream=is_stream)
            asked = Asked(question, conversation_id, effect=effect)
            if is_stream:
                return AnswerStream(*await self._chat.stream(account, asked))
            return await self._chat.whole(account, asked)

    async def query(self, account: Account, request: QueryRequest) -> Response | QueryAnswer:
        """Answer a question that belongs to no conversation of a list, or tell it again."""
        async with self._repeatable.attempt(account.context, request) as effect:
            if effect.answered is not None:
                told = await self._conversations.settled_answer(account.context, effect.answered)
                body = QueryAnswer.of(told).model_dump_json()
                return Response(body, headers=REPLAYED, media_type="application/json")
            question = Question(message=request.query, mode=ChatMode.RAG, top_k=request.top_k)
            asked = Asked(question, effect=effect, is_listed=False)
            return QueryAnswer.of(await self._chat.whole(account, asked))


Asking = Annotated[_Asking, Depends()]


async def _events(first: bytes, answer: Answer) -> AsyncIterator[bytes]:
    yield first
    async for event in answer.events():
        yield event


def _told_again(answer: ChatAnswer, *, is_stream: bool) -> Response:
    if is_stream:
        return StreamingResponse(
            events_of(answer), media_type=EVENT_STREAM, headers=_NOT_KEPT | REPLAYED
        )
    return Response(answer.model_dump_json(), headers=REPLAYED, media_type="application/json")
