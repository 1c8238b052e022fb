"""What a tenant's answers came to, by one account of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from planes.shared.domain import ChatMessage


@dataclass(frozen=True, slots=True)
class Bill:
    """Sums, exact to the last digit."""

    messages: int
    total_tokens: int
    cost_usd: Decimal

    @classmethod
    def of(cls, answers: Iterable[tuple[int, Decimal]]) -> Self:
        """Add up tokens and costs."""
        known = list(answers)
        costs = sum((cost for _, cost in known), Decimal(0))
        return cls(len(known), sum(tokens for tokens, _ in known), costs)

    @classmethod
    def of_messages(cls, messages: Iterable[ChatMessage]) -> Self:
        """Add up the usage that stands beside the answers in the chat log."""
        usages = (one.usage for one in messages if one.role == "assistant" and one.usage)
        return cls.of(
            (int(str(one["total_tokens"])), Decimal(str(one["cost_usd"]))) for one in usages
        )

    @classmethod
    def shown(cls, usage: Mapping[str, Any]) -> Self:
        """Read the totals of `GET /billing/usage`."""
        totals = usage["totals"]
        return cls(totals["messages"], totals["total_tokens"], Decimal(totals["cost_usd"]))
