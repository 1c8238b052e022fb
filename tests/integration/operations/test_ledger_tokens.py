"""Tokens of an answer by plan: of a month, of answers alone, in the plans' order."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text
from typer.testing import CliRunner

from services.cli import costs
from services.cli.main import app
from services.embedded.schema import owner_connection
from services.operations.costs import Tokens
from services.operations.ledger_tokens import tokens_by_plan
from tests.integration.operations.world import Place, Tenant

pytestmark = pytest.mark.integration

MONTH = date(2031, 10, 1)
PRICES = Path(__file__).parents[3] / "infra/prices.yaml"


def charge(
    owner: Connection, tenant: UUID, tokens: tuple[int, int], *, kind: str, month: date = MONTH
) -> None:
    owner.execute(
        text(
            "INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode, "
            "prompt_tokens, completion_tokens, cost_usd) SELECT :id, :tenant, m.user_id, :id, "
            ":kind, :month, 'm', 'open', :prompt, :completion, 0 FROM memberships m "
            "WHERE m.tenant_id = :tenant LIMIT 1"
        ),
        {
            "id": uuid4(),
            "tenant": tenant,
            "kind": kind,
            "month": month,
            "prompt": tokens[0],
            "completion": tokens[1],
        },
    )


async def test_tokens_are_means_of_a_months_answers_by_plan(
    place: Place, tenants: list[Tenant]
) -> None:
    with owner_connection(place.url) as owner:
        acme, globex = (tenant.tenant_id for tenant in tenants)
        owner.execute(text("UPDATE tenants SET plan = 'pro' WHERE id = :id"), {"id": acme})
        owner.execute(text("UPDATE tenants SET plan = 'free' WHERE id = :id"), {"id": globex})
        for tokens in ((100, 10), (200, 11), (200, 11)):
            charge(owner, acme, tokens, kind="answer")
        charge(owner, globex, (7, 3), kind="answer")
        charge(owner, acme, (9_000, 0), kind="embedding")
        charge(owner, acme, (9_000, 9_000), kind="answer", month=date(2031, 9, 1))
        free, pro = tokens_by_plan(owner, MONTH)
        assert not tokens_by_plan(owner, date(2031, 11, 1))
    assert (free.plan, free.answers, free.tokens) == ("free", 1, Tokens(Decimal(7), Decimal(3)))
    assert (pro.plan, pro.answers, pro.monthly_price_usd, pro.messages) == ("pro", 3, 29, 20_000)
    assert pro.tokens == Tokens(Decimal("166.667"), Decimal("10.667"))


async def test_costs_are_told_by_plan_beside_what_the_plan_brings(
    place: Place, tenants: list[Tenant], monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = SimpleNamespace(servers=SimpleNamespace(owner_url=lambda _: place.url))
    monkeypatch.setattr(costs, "running", lambda: installation)
    tenant = tenants[0].tenant_id
    with owner_connection(place.url) as owner:
        owner.execute(text("UPDATE tenants SET plan = 'pro' WHERE id = :id"), {"id": tenant})
        charge(owner, tenant, (1000, 100), kind="answer")
    arguments = ["costs", "--cpu-ms", "0", "--prices", str(PRICES), "--tier", "cluster", "--month"]
    told = CliRunner().invoke(app, [*arguments, "2031-10"])
    assert told.exit_code == 0
    assert "plan pro (1 answers of 2031-10)" in told.output
    assert "0 + 0.4 + 0.16 = 0.56 USD" in told.output
    assert "20,000 / 1,000 x 0.56; the plan brings 29 = 11.2 USD" in told.output
    told = CliRunner().invoke(app, [*arguments, "2031-11"])
    assert told.exit_code == 2
    assert "The ledger has no answers of 2031-11" in told.output
