"""What the routes of billing ask for."""

from typing import Annotated, Literal

from fastapi import Depends, Header, Query, Request

from services.gateway.billing.assembly import Billing
from services.gateway.billing.invoice_renderer import InvoiceRenderer
from services.gateway.billing.invoices import InvoiceService
from services.gateway.billing.subscriptions import SubscriptionService


async def _invoices(request: Request) -> InvoiceService:
    billing: Billing = request.app.state.payments
    return billing.invoices


async def _renderer(request: Request) -> InvoiceRenderer:
    billing: Billing = request.app.state.payments
    return billing.renderer


async def _subscriptions(request: Request) -> SubscriptionService:
    billing: Billing = request.app.state.payments
    return billing.subscriptions


async def _wants_pdf(
    wanted: Annotated[Literal["json", "pdf"] | None, Query(alias="format")] = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> bool:
    return wanted == "pdf" or (wanted is None and PDF in accept)


PDF = "application/pdf"
WantsPdf = Annotated[bool, Depends(_wants_pdf)]
InvoiceServiceDep = Annotated[InvoiceService, Depends(_invoices)]
InvoiceRendererDep = Annotated[InvoiceRenderer, Depends(_renderer)]
SubscriptionServiceDep = Annotated[SubscriptionService, Depends(_subscriptions)]
