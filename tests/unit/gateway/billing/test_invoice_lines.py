"""Invoices from ledger sums, without a database."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.billing.invoice_lines import (
    Books,
    invoice_id_of,
    invoice_of,
    plan_at_end,
    total_of,
)

TENANT = UUID("01a1fd26-1267-7285-bf84-61d8d204dc7a")
MAY, JUNE, JULY = date(2026, 5, 1), date(2026, 6, 1), date(2026, 7, 1)
NAMES = ("free", "pro", "enterprise")
AMOUNTS = st.decimals(min_value=0, max_value=10_000, places=10)


def books(included: Decimal | None, *history: tuple[date, str, str], plan: str = "free") -> Books:
    terms = [promise(name, Decimal(29 * n), included) for n, name in enumerate(NAMES)]
    changes = [dict(zip(("period", "from_plan", "to_plan"), row, strict=True)) for row in history]
    tenant = {"id": TENANT, "name": "Acme", "plan": plan, "current_period": JULY}
    return Books(tenant, terms, changes)


def promise(
    plan: str,
    price: Decimal,
    included: Decimal | None,
    since: date = date(1970, 1, 1),
    **other: Any,
) -> dict[str, Any]:
    """Return terms of a plan; their id is the plan's place unless told otherwise."""
    return {
        "id": NAMES.index(plan),
        "plan": plan,
        "title": plan.title(),
        "monthly_price_usd": price,
        "included_usage_usd": included,
        "valid_from": datetime.combine(since, datetime.min.time(), UTC),
        **other,
    }


def usage(amount: Decimal, model: str = "m") -> dict[str, Any]:
    tokens = {"messages": 1, "prompt_tokens": 2, "completion_tokens": 3}
    return {"kind": "answer", "model": model, "amount_usd": amount, **tokens}


def charge(plan: str, amount: Decimal) -> dict[str, Any]:
    entry = {**usage(amount, plan), "kind": "subscription", "prompt_tokens": 0}
    return {**entry, "terms_id": NAMES.index(plan)}


@pytest.mark.parametrize(
    ("amount", "total"), [("0.005", "0.00"), ("0.015", "0.02"), ("0.0150000001", "0.02")]
)
def test_a_total_is_rounded_half_to_even(amount: str, total: str) -> None:
    assert str(total_of([Decimal(amount)])) == total


@given(used=st.lists(AMOUNTS, min_size=1, max_size=5), included=st.none() | AMOUNTS)
def test_a_plan_includes_at_most_what_was_used(
    used: list[Decimal], included: Decimal | None
) -> None:
    rows = [usage(amount, f"model-{number}") for number, amount in enumerate(used)]
    invoice = invoice_of(books(included), JUNE, rows)
    *lines, taken_off = [Decimal(line.amount_usd) for line in invoice.lines]
    assert lines == used
    assert taken_off == -(sum(used) if included is None else min(sum(used), included))
    assert Decimal(invoice.total_usd) == total_of([*used, taken_off])
    assert not invoice.total_usd.startswith("-")
    assert "-0.0000000000" not in {line.amount_usd for line in invoice.lines}


def test_a_downgrade_in_the_last_hour_includes_no_more_than_the_plan_that_was_paid() -> None:
    kept = books(Decimal(1), (JUNE, "free", "pro"), (JUNE, "pro", "free"))
    kept.terms[0]["included_usage_usd"] = None  # type: ignore[index]
    invoice = invoice_of(kept, JUNE, [usage(Decimal(5)), charge("pro", Decimal(29))])
    assert invoice.lines[-1].description == "Included in plan Pro"
    assert invoice.total_usd == "33.00"


@given(
    prices=st.lists(AMOUNTS.filter(bool), unique=True, min_size=1, max_size=3),
    used=st.lists(AMOUNTS, max_size=4),
    included=st.none() | AMOUNTS,
)
def test_a_month_of_upgrades_costs_its_dearest_plan_and_the_usage_above_what_that_includes(
    prices: list[Decimal], used: list[Decimal], included: Decimal | None
) -> None:
    prices.sort()
    terms = [promise("pro", price, included, id=n) for n, price in enumerate(prices)]
    tenant = {"id": TENANT, "name": "Acme", "plan": "pro", "current_period": JULY}
    before = [Decimal(0), *prices]
    rows = [usage(amount, f"model-{n}") for n, amount in enumerate(used)]
    rows += [{**charge("pro", price - before[n]), "terms_id": n} for n, price in enumerate(prices)]
    invoice = invoice_of(Books(tenant, terms, []), JUNE, rows)
    above = Decimal(0) if included is None else max(Decimal(0), sum(used) - included)
    assert sum(Decimal(line.amount_usd) for line in invoice.lines) == prices[-1] + above
    assert Decimal(invoice.total_usd) == total_of([prices[-1], above])
    descriptions = [line.description for line in invoice.lines if line.kind == "plan"]
    assert descriptions == ["Plan Pro"] + ["Change to plan Pro, difference"] * (len(prices) - 1)


def test_new_terms_of_a_plan_leave_old_invoices_as_they_were() -> None:
    mid_june = date(2026, 6, 15)
    old = promise("free", Decimal(0), Decimal(1), id=0, title="Free")
    new = promise("free", Decimal(0), Decimal(0), mid_june, id=7, title="Gratis")
    tenant = {"id": TENANT, "name": "Acme", "plan": "free", "current_period": JULY}
    totals = {}
    for month in (MAY, JUNE, JULY):
        invoice = invoice_of(Books(tenant, [old, new], []), month, [usage(Decimal(3))])
        totals[month] = invoice.lines[-1].description, invoice.total_usd
    assert totals == {
        MAY: ("Included in plan Free", "2.00"),
        JUNE: ("Included in plan Free", "2.00"),
        JULY: ("Included in plan Gratis", "3.00"),
    }


def test_plans_stand_in_the_order_of_the_upgrades() -> None:
    rows = [charge("enterprise", Decimal(29)), charge("pro", Decimal(29))]
    invoice = invoice_of(books(None), JUNE, rows)
    assert [line.description for line in invoice.lines] == [
        "Plan Pro",
        "Change to plan Enterprise, difference",
    ]


def test_a_month_knows_its_plan_from_the_history() -> None:
    history = ((JUNE, "free", "pro"), (JUNE, "pro", "enterprise"), (JULY, "enterprise", "pro"))
    kept = books(None, *history, plan="pro")
    assert [plan_at_end(kept, month) for month in (MAY, JUNE, JULY)] == [
        "free",
        "enterprise",
        "pro",
    ]
    assert plan_at_end(books(None, plan="pro"), MAY) == "pro"


def test_an_invoice_keeps_its_id_and_number() -> None:
    first, again = (invoice_of(books(None), JUNE, [usage(Decimal(1))]) for _ in range(2))
    assert first == again
    assert first.id == invoice_id_of(TENANT, JUNE) != invoice_id_of(TENANT, JULY)
    assert first.number == f"PP-2026-06-{first.id.hex[:8]}"
    assert (first.status, invoice_of(books(None), JULY, []).status) == ("closed", "open")


def test_december_ends_with_the_year() -> None:
    december = invoice_of(books(None), date(2026, 12, 1), [])
    assert december.period.to.isoformat() == "2027-01-01T00:00:00+00:00"
