"""What tokens cost, for the running figure; the ledger computes its own, in the database."""

from dataclasses import dataclass
from decimal import Decimal

from planes.shared.stores.postgres import Database
from services.gateway.billing import repository
from services.gateway.billing.schemas import Usage


@dataclass(frozen=True, slots=True)
class _Price:
    prompt_token_usd: Decimal
    completion_token_usd: Decimal


class Prices:
    """The price list, read at start and again by the maintenance loop."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database
        self._prices: dict[str, _Price] = {}

    async def refresh(self) -> None:
        """Read the price list.

        Raises:
            Unavailable: The database does not answer; the old list stays.
        """
        async with self._database.platform() as connection:
            rows = await repository.prices(connection)
        self._prices = {
            row["model"]: _Price(row["prompt_token_usd"], row["completion_token_usd"])
            for row in rows
        }

    def usage(self, model: str, prompt_tokens: int, completion_tokens: int) -> Usage:
        """Return tokens with their cost so far."""
        price = self._prices.get(model) or self._prices["*"]
        cost = (
            price.prompt_token_usd * prompt_tokens + price.completion_token_usd * completion_tokens
        )
        return usage_of(prompt_tokens, completion_tokens, cost)


def usage_of(prompt_tokens: int, completion_tokens: int, cost_usd: Decimal) -> Usage:
    """Return tokens with a known cost."""
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        cost_usd=money(cost_usd),
    )


def money(amount: Decimal) -> str:
    """Return US dollars as a plain decimal string with ten places."""
    return f"{amount:.10f}"
