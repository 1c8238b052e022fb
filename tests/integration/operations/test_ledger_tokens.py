"""Tokens of an answer by plan: of a month, of answers alone, in the plans' order."""

from datetime import date
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from services.embedded.schema import owner_connection
from services.operations.costs import Tokens
from services.operations.ledger_tokens import tokens_by_plan
from tests.integration.operations.world import Place, Tenant

pytestmark = pytest.mark.integration

MONTH = date(2031, 10, 1)


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
