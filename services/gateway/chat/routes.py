"""`/chat` and `/conversations`."""

from contextlib import suppress
from typing import Annotated
from uuid import UUID

from fastapi import Query
from fastapi.responses import Response

from planes.shared.errors import InvalidInput, Unavailable
from services.gateway.auth.dependencies import Asker, ConversationUser
from services.gateway.chat.asking import EVENT_STREAM, Asking
from services.gateway.chat.schemas import (
    ChatAnswer,
    ChatRequest,
    Conversation,
    ConversationChange,
    ConversationInput,
    FollowUp,
    NewConversation,
    QueryAnswer,
    QueryRequest,
    StoredMessage,
)
from services.gateway.dependencies import ConversationServiceDep, StreamServiceDep
from services.gateway.pagination import (
    Cursor,
    Limit,
    NumberCursor,
    decode_id,
    decode_number,
    encode_id,
    encode_number,
)
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page

router = PrefixRouter(tags=["Chat"])
Listed = Annotated[
    bool,
    Query(description="false: those of single questions by `/v1/chat/completions` and `/query`."),
]
_ANSWER_RESPONSES = {
    200: {
        "description": "The whole answer, or with `stream: true` its events: `meta`, any of "
        "`step`, `delta`, `citation` and `usage`, and one `done` or `error` last.",
        "content": {EVENT_STREAM: {}},
    },
    **problem_responses(400, 401, 402, 404, 409),
}


@router.post("/chat", summary="Ask", response_model=ChatAnswer, responses=_ANSWER_RESPONSES)
@router.post("/chat/message", include_in_schema=False, response_model=ChatAnswer)
async def post_chat(request: ChatRequest, account: Asker, asking: Asking) -> Response | ChatAnswer:
    """Answer a question from the tenant's documents, whole or as server-sent events."""
    return await asking.answer(account, request, request.conversation_id)


@router.post(
    "/query",
    summary="Ask a single question",
    response_model=QueryAnswer,
    responses=problem_responses(400, 401, 402, 404, 409),
)
async def post_query(
    request: QueryRequest, account: Asker, asking: Asking
) -> Response | QueryAnswer:
    """Answer a question from the tenant's documents, whole and without a conversation."""
    return await asking.query(account, request)


@router.post(
    "/conversations/{conversation_id}/messages",
    summary="Ask in a conversation",
    response_model=ChatAnswer,
    responses=_ANSWER_RESPONSES,
)
async def post_message(
    conversation_id: UUID, request: FollowUp, account: Asker, asking: Asking
) -> Response | ChatAnswer:
    """Answer a question with the conversation's earlier messages in mind.

    With `regenerate: true` the last question is answered again. The new answer takes the place of
    the old one, for reading and for what is asked next; both are billed.
    """
    return await asking.answer(account, request, conversation_id)


@router.post(
    "/conversations",
    status_code=201,
    summary="Start a conversation",
    responses=problem_responses(400, 401, 402, 404, 409),
)
async def post_conversation(
    request: ConversationInput, account: Asker, asking: Asking
) -> NewConversation:
    """Make a conversation; with a message, answer it too."""
    return await asking.conversation(account, request)


@router.get("/conversations", summary="List conversations", responses=problem_responses(401))
async def get_conversations(
    account: ConversationUser,
    conversations: ConversationServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    listed: Listed = True,
) -> Page[Conversation]:
    """List the caller's conversations, newest first."""
    before = decode_id(cursor)
    rows = await conversations.shown(account.context, before, limit + 1, is_listed=listed)
    following = encode_id(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(items=[Conversation.of(row) for row in rows[:limit]], next_cursor=following)


@router.get(
    "/conversations/{conversation_id}",
    summary="Get a conversation",
    responses=problem_responses(401, 404),
)
async def get_conversation(
    conversation_id: UUID, account: ConversationUser, conversations: ConversationServiceDep
) -> Conversation:
    """Get one conversation of the caller."""
    return Conversation.of(await conversations.find(account.context, conversation_id))


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
    return Conversation.of(await conversations.change(account.context, conversation_id, changes))


@router.delete(
    "/conversations/{conversation_id}",
    status_code=204,
    summary="Delete a conversation",
    responses=problem_responses(401, 404),
)
async def delete_conversation(
    conversation_id: UUID,
    account: ConversationUser,
    conversations: ConversationServiceDep,
    streams: StreamServiceDep,
) -> None:
    """Delete a conversation with its messages; an answer that is under way is stopped."""
    await conversations.delete(account.context, conversation_id)
    with suppress(Unavailable):  # deleted it is; what is left of its events is told to nobody
        await streams.forget(account, conversation_id)


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
    cursor: NumberCursor = None,
) -> Page[StoredMessage]:
    """List the messages of a conversation, oldest first."""
    messages = await conversations.messages(
        account.context, conversation_id, after_seq=decode_number(cursor), limit=limit + 1
    )
    following = encode_number(messages[limit - 1].seq) if len(messages) > limit else None
    items = [StoredMessage.model_validate(m, from_attributes=True) for m in messages[:limit]]
    return Page(items=items, next_cursor=following)
