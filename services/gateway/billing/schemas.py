"""Usage, quotas and plans as clients see them."""

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

GroupBy = Literal["day", "model", "user"]


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
    monthly_price_usd: str
    messages_per_month: int | None
    tokens_per_month: int | None
    documents: int | None
    storage_bytes: int | None
    requests_per_minute: int
    chat_requests_per_minute: int


class PlansAnswer(BaseModel):
    """The tiers, cheapest first, and the tenant's own."""

    current: str
    items: list[Plan]
