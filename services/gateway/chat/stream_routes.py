"""`/chat/streams`."""

from typing import Annotated
from uuid import UUID

from fastapi import Header
from fastapi.responses import Response, StreamingResponse

from services.gateway.auth.dependencies import ConversationUser
from services.gateway.chat.asking import EVENT_STREAM, FollowedStream
from services.gateway.dependencies import StreamServiceDep
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/chat/streams", tags=["Chat"])

LastEventId = Annotated[
    str,
    Header(
        pattern="^[0-9]{0,15}$",
        description="The id of the last event that arrived; what follows it is sent. Without it "
        "the whole answer is.",
        examples=["17"],
    ),
]


@router.get(
    "/{answer_id}",
    summary="Go on with a stream",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "The events after `Last-Event-ID` as `POST /chat` would have sent them, "
            "`done` or `error` last.",
            "content": {EVENT_STREAM: {}},
        },
        204: {"description": "There is nothing after that event."},
        **problem_responses(401, 404, 409, 410),
    },
)
async def get_stream(
    answer_id: UUID,
    account: ConversationUser,
    streams: StreamServiceDep,
    last_event_id: LastEventId = "",
) -> Response:
    """Go on with an answer after a broken connection, without lost or doubled text.

    `id` of the event `meta` names the stream. An answer outlives its connection by the grace that
    the operator sets, and its events are kept for five minutes. After that the stored message is
    told as a stream; with `Last-Event-ID` that is 410, because nobody knows its place in the text.
    """
    events = await streams.resume(account, answer_id, int(last_event_id or 0))
    return Response(status_code=204) if events is None else FollowedStream(events)


@router.delete(
    "/{answer_id}",
    status_code=204,
    summary="Stop an answer",
    responses=problem_responses(401, 404),
)
async def delete_stream(
    answer_id: UUID, account: ConversationUser, streams: StreamServiceDep
) -> None:
    """Stop an answer at once.

    What was produced is billed, and kept with `finish_reason: cancelled`; whoever reads the stream
    gets `done`. An answer that has ended stays as it is.
    """
    await streams.stop(account, answer_id)
