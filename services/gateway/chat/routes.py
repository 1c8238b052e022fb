"""`/chat` and `/conversations`."""

from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Header, Query
from fastapi.responses import Response, StreamingResponse

from planes.shared.domain import ChatMessage
from planes.shared.errors import InvalidInput
from services.gateway.auth.dependencies import Asker, ConversationUser
from services.gateway.auth.models import Account
from services.gateway.chat.answers import Answer
from services.gateway.chat.schemas import (
    ChatAnswer,
    ChatRequest,
    Conversation,
    ConversationChange,
    ConversationInput,
    NewConversation,
    Question,
    StoredMessage,
)
from services.gateway.chat.service import ChatService
from services.gateway.dependencies import ChatServiceDep, ConversationServiceDep
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.schemas import Page

router = APIRouter(tags=["Chat"])
Accept = Annotated[str, Header(include_in_schema=False)]
_STREAM = {"cache-control": "no-store", "x-accel-buffering": "no"}
_ANSWER_RESPONSES = {
    200: {
        "description": "The whole answer, or with `stream: true` its events: `meta`, any of "
        "`step`, `delta`, `citation` and `usage`, and one `done` or `error` last.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **problem_responses(400, 401, 402, 404, 409),
}


@router.post("/chat", summary="Ask", response_model=ChatAnswer, responses=_ANSWER_RESPONSES)
@router.post("/chat/message", include_in_schema=False, response_model=ChatAnswer)
async def post_chat(
    request: ChatRequest, account: Asker, chat: ChatServiceDep, accept: Accept = ""
) -> Response | ChatAnswer:
    """Answer a question from the tenant's documents, whole or as server-sent events."""
    return await _answer(chat, account, request, request.conversation_id, accept)


@router.post(
    "/conversations/{conversation_id}/messages",
    summary="Ask in a conversation",
    response_model=ChatAnswer,
    responses=_ANSWER_RESPONSES,
)
async def post_message(
    conversation_id: UUID,
    request: Question,
    account: Asker,
    chat: ChatServiceDep,
    accept: Accept = "",
) -> Response | ChatAnswer:
    """Answer a question with the conversation's earlier messages in mind."""
    return await _answer(chat, account, request, conversation_id, accept)


@router.post(
    "/conversations",
    status_code=201,
    summary="Start a conversation",
    responses=problem_responses(401, 402),
)
async def post_conversation(
    request: ConversationInput,
    account: Asker,
    conversations: ConversationServiceDep,
    chat: ChatServiceDep,
) -> NewConversation:
    """Make a conversation; with a message, answer it too."""
    if request.message is None:
        row = await conversations.create(
            account.context,
            title=request.title,
            mode=request.mode,
            document_ids=request.document_ids,
        )
        return NewConversation(**_conversation(row).model_dump())
    question = Question(
        message=request.message, mode=request.mode, document_ids=request.document_ids
    )
    answer = await chat.whole(account.context, question, None, title=request.title)
    row = await conversations.find(account.context, answer.conversation_id)
    return NewConversation(**_conversation(row).model_dump(), answer=answer)


@router.get("/conversations", summary="List conversations", responses=problem_responses(401))
async def get_conversations(
    account: ConversationUser,
    conversations: ConversationServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Conversation]:
    """List the caller's conversations, newest first."""
    rows = await conversations.page(account.context, decode_id(cursor), limit + 1)
    following = encode_id(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(items=[_conversation(row) for row in rows[:limit]], next_cursor=following)


@router.get(
    "/conversations/{conversation_id}",
    summary="Get a conversation",
    responses=problem_responses(401, 404),
)
async def get_conversation(
    conversation_id: UUID, account: ConversationUser, conversations: ConversationServiceDep
) -> Conversation:
    """Get one conversation of the caller."""
    return _conversation(await conversations.find(account.context, conversation_id))


@router.patch(
    "/conversations/{conversation_id}",
    summary="Change a conversation",
    responses=problem_responses(401, 404),
)
async def patch_conversation(
    conversation_id: UUID,
    request: ConversationChange,
    account: ConversationUser,
    conversations: ConversationServiceDep,
) -> Conversation:
    """Set title, mode or documents; what is left out stays."""
    changes = request.model_dump(exclude_unset=True)
    if any(changes.get(name, "") is None for name in ("title", "mode")):
        raise InvalidInput("`title` and `mode` cannot be null.")
    return _conversation(await conversations.change(account.context, conversation_id, changes))


@router.delete(
    "/conversations/{conversation_id}",
    status_code=204,
    summary="Delete a conversation",
    responses=problem_responses(401, 404),
)
async def delete_conversation(
    conversation_id: UUID, account: ConversationUser, conversations: ConversationServiceDep
) -> None:
    """Delete a conversation with its messages."""
    await conversations.delete(account.context, conversation_id)


@router.get(
    "/conversations/{conversation_id}/messages",
    summary="List messages",
    responses=problem_responses(401, 404),
)
async def get_messages(
    conversation_id: UUID,
    account: ConversationUser,
    conversations: ConversationServiceDep,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(max_length=10, pattern="^[0-9]{1,9}$")] = None,
) -> Page[StoredMessage]:
    """List the messages of a conversation, oldest first."""
    messages = await conversations.messages(
        account.context, conversation_id, after_seq=int(cursor or 0), limit=limit + 1
    )
    following = str(messages[limit - 1].seq) if len(messages) > limit else None
    return Page(items=[_message(m) for m in messages[:limit]], next_cursor=following)


async def _answer(
    chat: ChatService,
    account: Account,
    question: Question,
    conversation_id: UUID | None,
    accept: str,
) -> Response | ChatAnswer:
    if not question.stream and "text/event-stream" not in accept:
        return await chat.whole(account.context, question, conversation_id)
    first, answer = await chat.stream(account.context, question, conversation_id)
    return StreamingResponse(
        _events(first, answer), media_type="text/event-stream", headers=_STREAM
    )


async def _events(first: bytes, answer: Answer) -> AsyncIterator[bytes]:
    events = answer.events()
    try:
        yield first
        async for event in events:
            yield event
    finally:
        answer.stop()


def _conversation(row: asyncpg.Record) -> Conversation:
    return Conversation(**{name: row[name] for name in Conversation.model_fields})


def _message(message: ChatMessage) -> StoredMessage:
    return StoredMessage.model_validate(message, from_attributes=True)
