"""`/feedback`, and the tenant's."""

from services.gateway.auth.dependencies import ConversationUser, FeedbackReader
from services.gateway.dependencies import FeedbackServiceDep
from services.gateway.feedback.schemas import Feedback, FeedbackInput
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page

router = PrefixRouter()


@router.post(
    "/feedback",
    status_code=201,
    summary="Rate an answer",
    tags=["Chat"],
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


@router.get(
    "/feedback",
    summary="List own feedback",
    tags=["Chat"],
    responses=problem_responses(400, 401, 403),
)
async def get_feedback(
    account: ConversationUser,
    feedback: FeedbackServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Feedback]:
    """List what the caller said of answers, newest first."""
    items = await feedback.of_caller(account.context, decode_id(cursor), limit + 1)
    return _page(items, limit)


@router.get(
    "/tenant/feedback",
    summary="List the tenant's feedback",
    tags=["Tenant"],
    responses=problem_responses(400, 401, 403),
)
async def get_tenant_feedback(
    account: FeedbackReader,
    feedback: FeedbackServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Feedback]:
    """List what the tenant's people said of answers, newest first; not what was asked."""
    items = await feedback.of_tenant(account.context, decode_id(cursor), limit + 1)
    return _page(items, limit)


def _page(items: list[Feedback], limit: int) -> Page[Feedback]:
    following = encode_id(items[limit - 1].id) if len(items) > limit else None
    return Page(items=items[:limit], next_cursor=following)
