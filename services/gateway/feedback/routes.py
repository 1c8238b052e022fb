"""`/feedback`."""

from typing import Annotated

from fastapi import APIRouter, Query

from services.gateway.auth.dependencies import ConversationUser
from services.gateway.dependencies import FeedbackServiceDep
from services.gateway.feedback.schemas import Feedback, FeedbackInput
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.schemas import Page

router = APIRouter(tags=["Chat"])


@router.post(
    "/feedback",
    status_code=201,
    summary="Rate an answer",
    responses=problem_responses(400, 401, 404, 409),
)
async def post_feedback(
    request: FeedbackInput,
    account: ConversationUser,
    feedback: FeedbackServiceDep,
    repeatable: Idempotent,
) -> Feedback:
    """Say whether an answer was good, and how it should have been.

    There is one feedback of each person on an answer: a later one takes its place. It lets the
    operator read the question and the answer when it is reviewed.
    """
    async with repeatable.attempt(account.context, request) as effect:
        return await feedback.give(account.context, request, effect)


@router.get("/feedback", summary="List feedback", responses=problem_responses(401, 403))
async def get_feedback(
    account: ConversationUser,
    feedback: FeedbackServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    everyone: Annotated[
        bool, Query(description="The whole tenant's, for owners and admins.")
    ] = False,
) -> Page[Feedback]:
    """List what the caller said of answers, newest first; nothing of what was asked is shown."""
    items = await feedback.page(account, decode_id(cursor), limit + 1, of_everyone=everyone)
    following = encode_id(items[limit - 1].id) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=following)
