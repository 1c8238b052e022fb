"""Paid plans: the way to the payment provider, and what comes back from it."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID, uuid5

import asyncpg
import structlog

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.billing import payment_repository, plan_repository
from services.gateway.billing.payment_repository import Subscription
from services.gateway.billing.payments import Order, PaymentEvent, PaymentKind, PaymentProvider
from services.gateway.billing.plan_changes import PlanChanges
from services.gateway.billing.plan_repository import PlanChange
from services.gateway.billing.prices import money
from services.gateway.billing.schemas import SubscriptionAnswer
from services.gateway.idempotency.service import Effect

_AUDITED = {
    PaymentKind.PAID: Action.PAYMENT_RECEIVED,
    PaymentKind.FAILED: Action.PAYMENT_FAILED,
}
_log = structlog.get_logger(__name__)


class SubscriptionService:
    """Orders plans, and changes them when the provider says that they are paid for."""

    def __init__(
        self, database: Database, provider: PaymentProvider, plan_changes: PlanChanges
    ) -> None:
        """Store the parts."""
        self._database = database
        self._provider = provider
        self._plan_changes = plan_changes

    async def subscribe(self, account: Account, plan: str, effect: Effect) -> SubscriptionAnswer:
        """Return where the caller pays for a plan, or changes what is paid for already.

        The same wish on the same day leads to the same order, also without an idempotency key.

        Raises:
            InvalidInput: There is no such plan.
            Conflict: It is the tenant's plan already, it is not for sale, or nothing is.
            Unavailable: The provider does not answer.
        """
        tenant_id = account.context.tenant_id
        answer = SubscriptionAnswer(checkout_url=await self._checkout(tenant_id, plan))
        async with self._database.tenant(tenant_id) as connection:
            await effect.record(connection, 201, answer)
        return answer

    async def _checkout(self, tenant_id: UUID, plan: str) -> str:
        async with self._database.tenant(tenant_id) as connection:
            names = [row["name"] for row in await plan_repository.plan_names(connection)]
            standing = await payment_repository.standing(connection, tenant_id)
        if plan not in names:
            raise InvalidInput(f"There is no plan {plan!r}; there are {', '.join(names)}.")
        if plan == standing["plan"]:
            raise Conflict(f"{plan} is the tenant's plan already.")
        if standing["customer_id"]:
            return await self._provider.portal(standing["customer_id"])
        if not self._provider.sells(plan):
            raise Conflict(f"The plan {plan} is not for sale.")
        wish = f"{plan}|{standing['newest_change']}|{datetime.now(UTC):%Y-%m-%d}"
        return await self._provider.checkout(Order(tenant_id, plan, str(uuid5(tenant_id, wish))))

    async def receive(self, body: bytes, signature: str) -> None:
        """Act on a webhook of the provider: once, and only if nothing newer was told before.

        Raises:
            BadRequest: The signature is not valid.
            NotFound: There is no provider.
            Unavailable: The database does not answer; the provider will repeat itself.
        """
        event = self._provider.event(body, signature)
        tenant_id = await self._tenant_of(event)
        async with self._database.tenant(tenant_id) as connection:
            if tenant_id is None:
                _log.warning("payment event of an unknown tenant", event_id=event.id)
                await payment_repository.insert_event(connection, event, None, "unknown-tenant")
                return
            has_changed = await self._act(connection, tenant_id, event)
        if has_changed:
            await self._plan_changes.forget_limits(tenant_id)

    async def _tenant_of(self, event: PaymentEvent) -> UUID | None:
        """Return whom an event is about: a subscription never moves to another tenant."""
        found = None
        if event.subscription_id is not None:
            async with self._database.platform() as connection:
                found = await payment_repository.tenant_of_subscription(
                    connection, event.subscription_id
                )
        found = found or event.tenant_id
        if found is None:
            return None
        async with self._database.tenant(found) as connection:
            return found if await payment_repository.tenant_exists(connection, found) else None

    async def _act(self, connection: Connection, tenant_id: UUID, event: PaymentEvent) -> bool:
        """Note an event with its effect; True when the tenant's plan is another one now."""
        await payment_repository.take_turn(connection, tenant_id)
        known = await payment_repository.find_subscription(connection, event.subscription_id)
        event = await _with_known_plan(connection, event)
        effect = _effect(event, known)
        is_new = await payment_repository.insert_event(connection, event, tenant_id, effect)
        if not is_new or effect != "applied":
            return False
        if event.kind in _AUDITED:
            await record(connection, _payment(tenant_id, event))
            return False
        return await self._entitle(connection, tenant_id, event, known)

    async def _entitle(
        self,
        connection: Connection,
        tenant_id: UUID,
        event: PaymentEvent,
        known: asyncpg.Record | None,
    ) -> bool:
        """Keep a subscription; where it entitles to another plan than before, change to that.

        A plan that the operator set by hand stays as long as what is paid for stays.
        """
        before = await payment_repository.subscribed_plan(connection, tenant_id)
        await payment_repository.save_subscription(connection, _kept(tenant_id, event, known))
        after = await payment_repository.subscribed_plan(connection, tenant_id)
        if after == before:
            return False
        if after is None:
            standing = await payment_repository.standing(connection, tenant_id)
            if standing["plan"] != before:
                return False
            after = (await plan_repository.plan_names(connection))[0]["name"]
        change = PlanChange(tenant_id, after, "payment-provider")
        return (await self._plan_changes.apply(connection, change)).is_change


async def _with_known_plan(connection: Connection, event: PaymentEvent) -> PaymentEvent:
    """Return an event without its plan, where there is no such plan any more."""
    names = {row["name"] for row in await plan_repository.plan_names(connection)}
    return event if event.plan in names else replace(event, plan=None)


def _effect(event: PaymentEvent, known: asyncpg.Record | None) -> str:
    """Return what an event may do: events come late, twice, and in any order."""
    if event.kind in _AUDITED:
        return "applied"
    if event.kind is PaymentKind.OTHER or event.subscription_id is None:
        return "ignored"
    if known is None:
        return "applied" if event.plan else "ignored"
    if known["ended"] or event.created_at < known["told_at"]:
        return "stale"
    ties = event.created_at == known["told_at"]  # the provider's clock shows seconds
    if ties and event.kind is PaymentKind.SUBSCRIBED and known["is_active"] and not event.is_active:
        return "stale"
    return "applied"


def _kept(tenant_id: UUID, event: PaymentEvent, known: asyncpg.Record | None) -> Subscription:
    """Return what is subscribed to now.

    The price of before keeps its plan, also when it is for sale no more; another price that is not
    ours entitles to nothing.
    """
    plan = event.plan or (known["plan"] if known else None)
    price = known["price_id"] if known else None
    is_foreign = event.plan is None and len({price, event.price_id} - {None}) > 1
    assert event.subscription_id is not None  # noqa: S101 (such events are ignored)
    assert plan is not None  # noqa: S101 (unknown subscriptions without a plan are ignored)
    has_ended = event.kind is PaymentKind.ENDED
    return Subscription(
        id=event.subscription_id,
        tenant_id=tenant_id,
        customer_id=event.customer_id or "",
        plan=plan,
        price_id=price if is_foreign else event.price_id or price,
        is_active=bool(event.is_active) and not has_ended and not is_foreign,
        ended=has_ended,
        told_at=event.created_at,
    )


def _payment(tenant_id: UUID, event: PaymentEvent) -> AuditEvent:
    amount = None if event.amount_usd is None else money(event.amount_usd)
    return AuditEvent(
        tenant_id,
        _AUDITED[event.kind],
        subject=f"subscription:{event.subscription_id}",
        details={"amount_usd": amount},
    )
