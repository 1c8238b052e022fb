"""The port to a payment provider, and what it may tell.

`NoPayments` is the adapter where none is configured; `stripe_payments` holds the other one, which
is imported only where it is wanted.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from planes.shared.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Order:
    """A plan that a tenant wants to pay for.

    Attributes:
        tenant_id: Who.
        plan: What.
        key: The same for a repeat of the same wish, so that it makes no second order.
    """

    tenant_id: UUID
    plan: str
    key: str


class PaymentKind(StrEnum):
    """What an event means for us."""

    SUBSCRIBED = "subscribed"  # also a change of what was subscribed to
    ENDED = "ended"
    PAID = "paid"
    FAILED = "failed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """What a payment provider told us, its signature checked; what it left open is None.

    Attributes:
        id: The provider's; the same for a repeat.
        kind: What it means.
        name: The provider's own name for that.
        created_at: By the provider's clock, to the second.
        tenant_id: As we said when we ordered.
        subscription_id: What it is about.
        customer_id: Who pays.
        plan: What is subscribed to.
        price_id: The provider's, of that.
        is_active: Whether the subscription entitles to its plan.
        amount_usd: What was paid, or was to be; None in another currency.
    """

    id: str
    kind: PaymentKind
    name: str
    created_at: datetime
    tenant_id: UUID | None = None
    subscription_id: str | None = None
    customer_id: str | None = None
    plan: str | None = None
    price_id: str | None = None
    is_active: bool | None = None
    amount_usd: Decimal | None = None


class PaymentProvider(Protocol):
    """Somebody who takes money; one adapter a provider."""

    def sells(self, plan: str) -> bool:
        """Whether a plan has a price there."""
        ...

    async def checkout(self, order: Order) -> str:
        """Return the address at which a person pays for a plan.

        Raises:
            Unavailable: The provider does not answer in time, or refuses us.
            Conflict: There is no provider.
        """
        ...

    async def portal(self, customer_id: str) -> str:
        """Return the address at which somebody who pays already changes or ends that.

        Raises:
            Unavailable: The provider does not answer in time, or refuses us.
        """
        ...

    def event(self, body: bytes, signature: str) -> PaymentEvent:
        """Return what the provider says in a webhook's body.

        Raises:
            BadRequest: The signature is missing, wrong or too old.
            NotFound: There is no provider.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class NoPayments:
    """No provider: plans are the operator's."""

    def sells(self, plan: str) -> bool:
        """Let every plan pass to `checkout`, which says who sets it."""
        return bool(plan)

    async def checkout(self, order: Order) -> str:
        """Refuse.

        Raises:
            Conflict: Always; it names the command that sets a plan.
        """
        raise Conflict(
            "This installation takes no payments. Its operator sets plans: "
            f"`polyplane admin set-plan --tenant {order.tenant_id} --plan {order.plan}`."
        )

    async def portal(self, customer_id: str) -> str:
        """Refuse.

        Raises:
            Conflict: Always.
        """
        raise Conflict(
            f"This installation takes no payments any more; {customer_id} pays elsewhere."
        )

    def event(self, body: bytes, signature: str) -> PaymentEvent:
        """Answer as if the route did not exist.

        Raises:
            NotFound: Always.
        """
        del body, signature
        raise NotFound("No payment provider is configured.")

    async def close(self) -> None:
        """Do nothing."""
