"""What the ways of asking share: whole or as events, once or again."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel
from starlette.datastructures import State
from starlette.types import Receive, Scope, Send

from planes.shared.domain import ChatMode, TenantContext
from planes.shared.errors import Conflict, Gone, InvalidInput, NotFound, Unavailable
from services.gateway.auth.models import Account
from services.gateway.chat.answers import Answer
from services.gateway.chat.conversations import ConversationService
from services.gateway.chat.replays import events_of
from services.gateway.chat.schemas import (
    ChatAnswer,
    ConversationInput,
    FollowUp,
    NewConversation,
    QueryAnswer,
    QueryRequest,
    Question,
)
from services.gateway.chat.service import Asked, ChatService
from services.gateway.chat.streams import StreamService
from services.gateway.idempotency.dependencies import REPLAYED, Idempotent, Repeatable, replayed
from services.gateway.idempotency.service import AnswerUnderWay, Effect

EVENT_STREAM = "text/event-stream"
NOT_KEPT = {"cache-control": "no-store", "x-accel-buffering": "no"}


class AnswerStream(StreamingResponse):
    """What an answer under way sends; however the response ends, nobody reads the answer then."""

    def __init__(
        self, sent: AsyncIterator[bytes], answer: Answer, headers: Mapping[str, str] = {}
    ) -> None:
        """Store the answer and what is sent of it."""
        super().__init__(sent, media_type=EVENT_STREAM, headers={**NOT_KEPT, **headers})
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; a client that hangs up may come back for the rest where that is possible."""
        del scope
        watching = asyncio.create_task(self._hang_up_with(receive))
        try:
            start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
            await send(start)
            async for events in self.body_iterator:
                await send({"type": "http.response.body", "body": events, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            watching.cancel()
            self._answer.hang_up()

    async def _hang_up_with(self, receive: Receive) -> None:
        """End the stream when its client has gone: nothing more is to be read then."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._answer.hang_up()


class FollowedStream(StreamingResponse):
    """The events of an answer that is written elsewhere, or was written before."""

    def __init__(self, events: AsyncGenerator[bytes], headers: Mapping[str, str] = {}) -> None:
        """Store the events."""
        super().__init__(events, media_type=EVENT_STREAM, headers={**NOT_KEPT, **headers})
        self._follower = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events, and stop following."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._follower.aclose()


class ChatAsking:
    """Answers a question the way its client wants it."""

    def __init__(
        self, services: State, repeatable: Repeatable, receive: Receive, *, wants_events: bool
    ) -> None:
        """Find the services, and store what is known of the request.

        Args:
            services: The application's state.
            repeatable: The request with its key, if it has one.
            receive: Of a request that was read: tells when its client has gone.
            wants_events: It accepts events, whatever its body says.
        """
        self._receive = receive
        self._wants_events = wants_events
        self._chat: ChatService = services.chat
        self._streams: StreamService = services.streams
        self._conversations: ConversationService = services.conversations
        self._repeatable = repeatable

    async def answer(
        self, account: Account, request: Question | FollowUp, conversation_id: UUID | None
    ) -> Response | ChatAnswer:
        """Answer, or tell again what was answered; whole and as events are two requests."""
        is_stream = request.stream or self._wants_events
        try:
            return await self._attempt(account, request, conversation_id, is_stream=is_stream)
        except AnswerUnderWay as under_way:
            return await self._joined(account, under_way, is_stream=is_stream)

    async def query(self, account: Account, request: QueryRequest) -> Response | QueryAnswer:
        """Answer a question that belongs to no conversation of a list, or tell it again."""
        async with self.attempt(account, request) as effect:
            if effect.answered is not None:
                told = await self._conversations.settled_answer(account.context, effect.answered)
                body = QueryAnswer.of(told).model_dump_json()
                return Response(body, headers=REPLAYED, media_type="application/json")
            question = Question(message=request.query, mode=ChatMode.RAG, top_k=request.top_k)
            asked = Asked(question, effect=effect, is_listed=False)
            return QueryAnswer.of(await self._chat.whole(account, asked, self.client_left))

    async def conversation(self, account: Account, request: ConversationInput) -> NewConversation:
        """Make a conversation, and answer its first message if there is one; or tell it again."""
        context, conversations = account.context, self._conversations
        async with self.attempt(account, request) as effect:
            question = request.question()
            if question is None:
                return await conversations.create(context, request, effect)
            if effect.answered is not None:
                told = await conversations.settled_answer(context, effect.answered)
                raise replayed(201, await conversations.opened(context, request, told))
            asked = Asked(question, title=request.title, effect=effect)
            answer = await self._chat.whole(account, asked, self.client_left)
            return await conversations.opened(context, request, answer)

    @asynccontextmanager
    async def attempt(
        self, account: Account, content: BaseModel, **decided: object
    ) -> AsyncIterator[Effect]:
        """Do as `Repeatable.attempt`; an answer that is asked for again waits for its client.

        Raises:
            AnswerUnderWay: The request is being answered; whoever obeys it gets the whole answer.
        """
        try:
            async with self._repeatable.attempt(account.context, content, **decided) as effect:
                yield effect
        except AnswerUnderWay as under_way:
            await self._streams.await_repeat(account, under_way)
            raise

    async def client_left(self) -> None:
        """Return when the client of a request that was read has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def heard(self, answer: Answer) -> AsyncIterator[bytes]:
        """Return an answer's events, with comments in silences."""
        return answer.events(self._streams.heartbeat_s)

    async def _attempt(
        self,
        account: Account,
        request: Question | FollowUp,
        conversation_id: UUID | None,
        *,
        is_stream: bool,
    ) -> Response | ChatAnswer:
        context = account.context
        if not self._repeatable.is_keyed:
            asked = await self._asked(context, request, conversation_id, Effect())
            return await self._answered(account, asked, is_stream=is_stream)
        async with self.attempt(account, request, stream=is_stream) as effect:
            if effect.answered is not None:
                told = await self._conversations.settled_answer(context, effect.answered)
                return _told_again(told, is_stream=is_stream)
            asked = await self._asked(context, request, conversation_id, effect)
            return await self._answered(account, asked, is_stream=is_stream)

    async def _answered(
        self, account: Account, asked: Asked, *, is_stream: bool
    ) -> Response | ChatAnswer:
        if not is_stream:
            return await self._chat.whole(account, asked, self.client_left)
        answer = await self._chat.stream(account, asked)
        is_resumable = "true" if await answer.is_resumable() else "false"
        return AnswerStream(self.heard(answer), answer, {"x-resumable": is_resumable})

    async def _asked(
        self,
        context: TenantContext,
        request: Question | FollowUp,
        conversation_id: UUID | None,
        effect: Effect,
    ) -> Asked:
        """Return what is asked, of whom: a new question, or the last one again.

        Raises:
            NotFound: The conversation is not the caller's.
            Conflict: Nothing was asked in it yet.
            InvalidInput: Another message than the last one is to be answered again.
        """
        if isinstance(request, Question):
            return Asked(request, conversation_id, effect=effect)
        if not request.regenerate or conversation_id is None:
            return Asked(request.question(request.message or ""), conversation_id, effect=effect)
        last = await self._conversations.last_exchange(context, conversation_id)
        message = last.question.content
        if request.message not in {None, message}:
            raise InvalidInput("`message` is not the last one of the conversation; leave it out.")
        mode = ChatMode(last.answer.mode) if last.answer and last.answer.mode else None
        question = request.question(message, mode)
        return Asked(question, conversation_id, effect=effect, replaces=last)

    async def _joined(
        self, account: Account, under_way: AnswerUnderWay, *, is_stream: bool
    ) -> Response:
        """Tell a repeated request the answer that its first sending is still getting.

        Raises:
            AnswerUnderWay: It wants the whole answer, or the stream cannot be followed.
        """
        answer_id = under_way.place.answer_id
        if not is_stream:
            raise under_way
        try:
            events = await self._streams.resume(account, answer_id, 0)
        except (NotFound, Gone, Conflict, Unavailable) as error:
            raise under_way from error
        if events is None:
            raise under_way
        return FollowedStream(events, REPLAYED)


async def _asking(request: Request, repeatable: Idempotent) -> ChatAsking:
    wants_events = EVENT_STREAM in request.headers.get("accept", "")
    return ChatAsking(request.app.state, repeatable, request.receive, wants_events=wants_events)


Asking = Annotated[ChatAsking, Depends(_asking)]


def _told_again(answer: ChatAnswer, *, is_stream: bool) -> Response:
    if is_stream:
        return StreamingResponse(
            events_of(answer), media_type=EVENT_STREAM, headers=NOT_KEPT | REPLAYED
        )
    return Response(answer.model_dump_json(), headers=REPLAYED, media_type="application/json")
