"""Usage, quotas, plans, subscriptions and invoices as clients see them."""

from datetime import date, datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from services.gateway.schemas import InputModel, Name

GroupBy = Literal["day", "model", "user"]
LineKind = Literal["plan", "usage", "included"]


class Usage(BaseModel):
    """Tokens and what they cost; money is a decimal string in US dollars."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: str = Field(examples=["0.0000123400"])


class UsageTotals(Usage):
    """Usage over a period."""

    messages: int


class UsageItem(UsageTotals):
    """Usage of one day, model or user, whichever was asked for."""

    day: date | None = None
    model: str | None = None
    user_id: UUID | None = None


class Quota(BaseModel):
    """One quota; null is unlimited, or never resets."""

    limit: int | None
    used: int
    remaining: int | None
    resets_at: datetime | None


class Period(BaseModel):
    """A span of time, the end excluded."""

    from_: datetime = Field(serialization_alias="from")
    to: datetime


class Quotas(BaseModel):
    """Every quota of the plan."""

    messages: Quota
    tokens: Quota
    documents: Quota
    storage_bytes: Quota


class UsageAnswer(BaseModel):
    """What was used in a period, and what the plan leaves."""

    plan: str = Field(examples=["free"])
    period: Period
    totals: UsageTotals
    quotas: Quotas
    items: list[UsageItem]


class Plan(BaseModel):
    """A tier; null is unlimited."""

    name: str = Field(examples=["pro"])
    title: str
    monthly_price_usd: str = Field(examples=["29.0000000000"])
    messages_per_month: int | None
    tokens_per_month: int | None
    documents: int | None
    storage_bytes: int | None
    included_usage_usd: str | None = Field(
        description="Usage that the price includes; null is all of it.", examples=["10.0000000000"]
    )
    requests_per_minute: int
    chat_requests_per_minute: int
    upload_requests_per_minute: int
    search_requests_per_minute: int
    features: list[str] = Field(examples=[["open-chat", "api-keys"]])


class PlansAnswer(BaseModel):
    """The tiers, cheapest first, and the tenant's own."""

    current: str
    items: list[Plan]


class SubscriptionRequest(InputModel):
    """The plan that a tenant wants to pay for."""

    plan: Annotated[Name, Field(examples=["pro"])]


class SubscriptionAnswer(BaseModel):
    """Where the owner pays; the plan changes when the payment provider says so."""

    checkout_url: str = Field(examples=["https://checkout.stripe.com/c/pay/cs_test_a1b2c3"])


class InvoiceLine(BaseModel):
    """A line of an invoice, exact to ten places; a negative amount is taken off."""

    kind: LineKind
    description: str = Field(examples=["Usage of extractive"])
    model: str | None = Field(examples=["extractive"])
    messages: int
    prompt_tokens: int
    completion_tokens: int
    amount_usd: str = Field(examples=["0.0000123400"])


class InvoiceSummary(BaseModel):
    """One month of a tenant; the month that has not ended yet is `open` and still changes."""

    id: UUID
    number: str = Field(examples=["PP-2026-11-9f0c2a7e"])
    status: Literal["open", "closed"]
    issue_date: date | None = Field(
        description="The first day after the month (UTC); null while it is open.",
        examples=["2026-12-01"],
    )
    period: Period
    total_usd: str = Field(description="Rounded to cents, half to even.", examples=["29.00"])


class Invoice(InvoiceSummary):
    """A month with its lines."""

    tenant_id: UUID
    tenant_name: str
    currency: Literal["USD"] = "USD"
    lines: list[InvoiceLine]
