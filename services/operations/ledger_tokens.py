"""Tokens of an answer by plan, as the ledger tells them."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from sqlalchemy import Connection, text

from services.operations.costs import Tokens

_PLACES = Decimal("1e-3")
_BY_PLAN = text("""
SELECT p.name, p.monthly_price_usd, p.messages_per_month, count(*) AS answers,
       sum(l.prompt_tokens)::numeric AS prompt_tokens,
       sum(l.completion_tokens)::numeric AS completion_tokens
FROM ledger l
JOIN tenants t ON t.id = l.tenant_id
JOIN plans p ON p.name = t.plan
WHERE l.kind = 'answer' AND l.period = :month
GROUP BY p.name, p.monthly_price_usd, p.messages_per_month, p.position
ORDER BY p.position
""")


@dataclass(frozen=True, slots=True)
class PlanTokens:
    """What the answers of a plan's tenants came to in a month; `messages` None: as many as wanted.

    A tenant's answers count for the plan that it has now.
    """

    plan: str
    answers: int
    tokens: Tokens
    monthly_price_usd: Decimal
    messages: int | None


def tokens_by_plan(connection: Connection, month: date) -> list[PlanTokens]:
    """Return the plans with answers in a UTC month, in the plans' own order.

    Args:
        connection: As the owner of the platform's database.
        month: Its first day.
    """
    return [
        PlanTokens(
            row.name,
            row.answers,
            Tokens(
                (row.prompt_tokens / row.answers).quantize(_PLACES),
                (row.completion_tokens / row.answers).quantize(_PLACES),
            ),
            row.monthly_price_usd,
            row.messages_per_month,
        )
        for row in connection.execute(_BY_PLAN, {"month": month})
    ]
