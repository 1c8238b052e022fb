"""`/billing`."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Request
from fastapi.responses import Response

from services.gateway.auth.dependencies import BillingReader, InvoiceReader, TenantOwner
from services.gateway.billing.dependencies import (
    PDF,
    InvoiceRendererDep,
    InvoiceServiceDep,
    SubscriptionServiceDep,
    WantsPdf,
)
from services.gateway.billing.schemas import (
    GroupBy,
    Invoice,
    InvoiceSummary,
    PlansAnswer,
    SubscriptionAnswer,
    SubscriptionRequest,
    UsageAnswer,
)
from services.gateway.dependencies import BillingServiceDep
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page

router = PrefixRouter(prefix="/billing", tags=["Billing"])


@router.get("/usage", summary="Get usage and quotas", responses=problem_responses(401, 403))
async def get_usage(
    account: BillingReader,
    billing: BillingServiceDep,
    start: Annotated[datetime | None, Query(alias="from", description="From this time on.")] = None,
    end: Annotated[datetime | None, Query(alias="to", description="Before this time.")] = None,
    group_by: GroupBy = "day",
) -> UsageAnswer:
    """Get tokens and cost from the ledger, for the current month unless told otherwise."""
    return await billing.usage(account, start, end, group_by)


@router.get("/plans", summary="List the plans", responses=problem_responses(401, 403))
async def get_plans(account: BillingReader, billing: BillingServiceDep) -> PlansAnswer:
    """List the tiers with their limits, features and prices, cheapest first."""
    return await billing.plans(account)


@router.post(
    "/subscription",
    status_code=201,
    summary="Subscribe to a plan",
    responses=problem_responses(400, 401, 403, 409),
)
async def post_subscription(
    request: SubscriptionRequest,
    account: TenantOwner,
    subscriptions: SubscriptionServiceDep,
    repeatable: Idempotent,
) -> SubscriptionAnswer:
    """Get the page on which the owner pays for a plan, or changes a subscription.

    Where no payment provider is configured, the operator sets plans; the problem says how.
    """
    async with repeatable.attempt(account.context, request) as effect:
        return await subscriptions.subscribe(account, request.plan, effect)


@router.post(
    "/webhooks/stripe",
    summary="Receive a payment event",
    responses=problem_responses(400, 404),
)
async def post_stripe_event(
    request: Request,
    subscriptions: SubscriptionServiceDep,
    stripe_signature: Annotated[str, Header(description="As Stripe signs its events.")] = "",
) -> dict[str, bool]:
    """Receive an event of Stripe; only Stripe can sign one. Repeats change nothing."""
    await subscriptions.receive(await request.body(), stripe_signature)
    return {"received": True}


@router.get("/invoices", summary="List invoices", responses=problem_responses(401, 403))
async def get_invoices(
    account: InvoiceReader,
    invoices: InvoiceServiceDep,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[InvoiceSummary]:
    """List a month each, newest first; the current one is open and still changes."""
    items, has_more = await invoices.newest(account, decode_id(cursor), limit)
    return Page(items=items, next_cursor=encode_id(items[-1].id) if has_more else None)


@router.get(
    "/invoices/{invoice_id}",
    summary="Get an invoice",
    response_model=Invoice,
    responses={
        200: {
            "description": "The invoice, as JSON or as PDF.",
            "content": {PDF: {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_responses(401, 403, 404),
    },
)
async def get_invoice(
    invoice_id: UUID,
    account: InvoiceReader,
    invoices: InvoiceServiceDep,
    renderer: InvoiceRendererDep,
    wants_pdf: WantsPdf,
) -> Response | Invoice:
    """Get an invoice with its lines; as PDF with `Accept: application/pdf` or `?format=pdf`."""
    invoice = await invoices.get(account, invoice_id)
    if not wants_pdf:
        return invoice
    headers = {
        "content-disposition": f'inline; filename="{invoice.number}.pdf"',
        "cache-control": "no-store",
    }
    return Response(await renderer.pdf(invoice), media_type=PDF, headers=headers)
