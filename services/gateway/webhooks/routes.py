"""`/webhooks`."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request, Response

from services.gateway.auth.dependencies import TenantAdmin
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page
from services.gateway.webhooks.schemas import NewWebhook, TestAnswer, Webhook, WebhookInput
from services.gateway.webhooks.service import WebhookService

router = PrefixRouter(prefix="/webhooks", tags=["Tenant"])


async def _webhooks(request: Request) -> WebhookService:
    service: WebhookService = request.app.state.webhooks
    return service


WebhooksDep = Annotated[WebhookService, Depends(_webhooks)]


@router.post(
    "", status_code=201, summary="Make a webhook", responses=problem_responses(400, 401, 403, 409)
)
async def post_webhook(
    request: WebhookInput, response: Response, account: TenantAdmin, webhooks: WebhooksDep
) -> NewWebhook:
    """Have events of this tenant sent to a URL, each at least once, signed (Standard Webhooks).

    The secret is shown this once, so repeats of this request are not answered from memory: they
    make another webhook.
    """
    response.headers["cache-control"] = "no-store"
    made = await webhooks.make(request, account)
    return NewWebhook(**Webhook.of(made.row).model_dump(), secret=made.secret)


@router.get("", summary="List webhooks", responses=problem_responses(401, 403))
async def get_webhooks(
    account: TenantAdmin, webhooks: WebhooksDep, limit: Limit = 50, cursor: Cursor = None
) -> Page[Webhook]:
    """List the tenant's webhooks and how their deliveries go, newest first."""
    rows = await webhooks.page(decode_id(cursor), limit + 1, account.context)
    following = encode_id(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(items=[Webhook.of(row) for row in rows[:limit]], next_cursor=following)


@router.get("/{webhook_id}", summary="Get a webhook", responses=problem_responses(401, 403, 404))
async def get_webhook(webhook_id: UUID, account: TenantAdmin, webhooks: WebhooksDep) -> Webhook:
    """Get one webhook and how its deliveries go."""
    return Webhook.of(await webhooks.find(webhook_id, account.context))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    summary="Delete a webhook",
    responses=problem_responses(401, 403, 404),
)
async def delete_webhook(webhook_id: UUID, account: TenantAdmin, webhooks: WebhooksDep) -> None:
    """Delete a webhook; what waits for it is not sent any more."""
    await webhooks.delete(webhook_id, account)


@router.post(
    "/{webhook_id}/test",
    status_code=202,
    summary="Test a webhook",
    responses=problem_responses(400, 401, 403, 404, 409),
)
async def post_test(
    webhook_id: UUID, account: TenantAdmin, webhooks: WebhooksDep, repeatable: Idempotent
) -> TestAnswer:
    """Send a `ping` at once; where it is delivered, a paused webhook goes on."""
    async with repeatable.attempt(account.context, {}) as effect:
        return await webhooks.test(webhook_id, account.context, effect)
