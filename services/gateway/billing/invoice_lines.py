"""An invoice from its ledger entries: pure functions, exact until the total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, TypeAlias
from uuid import UUID, uuid5

import asyncpg

from services.gateway.billing.prices import money
from services.gateway.billing.schemas import Invoice, InvoiceLine, LineKind, Period

_CENT = Decimal("0.01")
Row: TypeAlias = Mapping[str, Any] | asyncpg.Record


@dataclass(frozen=True, slots=True)
class Books:
    """What a tenant's invoices need beside its ledger.

    Attributes:
        tenant: id, name, plan and `current_period`.
        terms: What every plan promised and from when on, oldest first.
        history: The plan changes, oldest first.
    """

    tenant: Row
    terms: Sequence[Row]
    history: Sequence[Row]

    def charged(self, charge: Row) -> Row:
        """Return the terms by which a plan was charged."""
        return next(row for row in self.terms if row["id"] == charge["terms_id"])

    def at_start(self, plan: str, period: date) -> Row:
        """Return a plan's terms at the beginning of a month, or its first ones if it is younger."""
        of_plan = [row for row in self.terms if row["plan"] == plan]
        known = [row for row in of_plan if row["valid_from"] <= _midnight(period)]
        return (known or of_plan[:1])[-1]


def invoice_id_of(tenant_id: UUID, period: date) -> UUID:
    """Return the id of a tenant's invoice of a month, the same each time (UUIDv5, RFC 9562)."""
    return uuid5(tenant_id, f"invoice:{period:%Y-%m}")


def invoice_of(books: Books, period: date, entries: Sequence[Row]) -> Invoice:
    """Return the invoice of a month from the sums of its ledger entries by kind and model."""
    invoice_id = invoice_id_of(books.tenant["id"], period)
    lines = _lines(books, period, entries)
    is_open = period == books.tenant["current_period"]
    return Invoice(
        id=invoice_id,
        number=f"PP-{period:%Y-%m}-{invoice_id.hex[:8]}",
        status="open" if is_open else "closed",
        issue_date=None if is_open else _next_month(period),
        period=Period(from_=_midnight(period), to=_midnight(_next_month(period))),
        total_usd=str(total_of([Decimal(line.amount_usd) for line in lines])),
        tenant_id=books.tenant["id"],
        tenant_name=books.tenant["name"],
        lines=lines,
    )


def total_of(amounts: Sequence[Decimal]) -> Decimal:
    """Return an invoice's total: the one place where money is rounded, half to even."""
    return sum(amounts, Decimal(0)).quantize(_CENT, ROUND_HALF_EVEN)


def _lines(books: Books, period: date, entries: Sequence[Row]) -> list[InvoiceLine]:
    charges = [row for row in entries if row["kind"] == "subscription"]
    charges.sort(key=lambda row: books.charged(row)["monthly_price_usd"])  # as upgrades come
    usage = [row for row in entries if row["kind"] in {"answer", "embedding"}]
    lines = [_line("plan", _plan_text(books.charged(row), row), row) for row in charges]
    lines += [_line("usage", f"Usage of {row['model']}", row) for row in usage]
    if usage:
        if charges:
            terms = books.charged(charges[-1])
        else:
            terms = books.at_start(plan_at_end(books, period), period)
        used = sum((row["amount_usd"] for row in usage), Decimal(0))
        limit = terms["included_usage_usd"]
        included = used if limit is None else min(used, limit)
        text = f"Included in plan {terms['title']}"
        lines.append(_line("included", text, {"amount_usd": Decimal(0) - included}))
    return lines


def plan_at_end(books: Books, period: date) -> str:
    """Return the name of the plan at the end of a month."""
    until_then = [row["to_plan"] for row in books.history if row["period"] <= period]
    later = [row["from_plan"] for row in books.history if row["period"] > period]
    name: str = [*until_then[-1:], *later[:1], books.tenant["plan"]][0]
    return name


def _plan_text(terms: Row, charge: Row) -> str:
    is_whole = charge["amount_usd"] >= terms["monthly_price_usd"]
    return f"Plan {terms['title']}" if is_whole else f"Change to plan {terms['title']}, difference"


def _line(kind: LineKind, description: str, row: Row) -> InvoiceLine:
    return InvoiceLine(
        kind=kind,
        description=description,
        model=row["model"] if kind == "usage" else None,
        messages=row["messages"] if kind == "usage" else 0,
        prompt_tokens=row.get("prompt_tokens", 0),
        completion_tokens=row.get("completion_tokens", 0),
        amount_usd=money(row["amount_usd"]),
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, datetime.min.time(), UTC)


def _next_month(day: date) -> date:
    return day.replace(year=day.year + day.month // 12, month=day.month % 12 + 1)
