"""`/billing`."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query

from services.gateway.auth.dependencies import BillingReader
from services.gateway.billing.schemas import GroupBy, PlansAnswer, UsageAnswer
from services.gateway.dependencies import BillingServiceDep
from services.gateway.problems import problem_responses

router = APIRouter(prefix="/billing", tags=["Billing"])


@router.get("/usage", summary="Get usage and quotas", responses=problem_responses(401, 403))
async def get_usage(
    account: BillingReader,
    billing: BillingServiceDep,
    start: Annotated[datetime | None, Query(alias="from", description="From this time on.")] = None,
    end: Annotated[datetime | None, Query(alias="to", description="Before this time.")] = None,
    group_by: GroupBy = "day",
) -> UsageAnswer:
    """Get tokens and cost from the ledger, for the current month unless told otherwise."""
    return await billing.usage(account, start, end, group_by)


@router.get("/plans", summary="List the plans", responses=problem_responses(401))
async def get_plans(account: BillingReader, billing: BillingServiceDep) -> PlansAnswer:
    """List the tiers with their limits, cheapest first."""
    return await billing.plans(account)
