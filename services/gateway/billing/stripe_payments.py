"""Stripe behind the port: Checkout, the billing portal, and signed webhooks."""

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

import orjson
import stripe
import structlog

from planes.shared.errors import BadRequest, Unavailable
from services.gateway.billing.payments import Order, PaymentEvent, PaymentKind

_DEADLINE_S = 8.0
_RETRIES = 1
_TOLERANCE_S = 300  # Stripe's own default, against replays
_ENTITLING = frozenset(
    {"active", "trialing", "past_due"}
)  # the last: Stripe still tries to collect
_KINDS = {
    "checkout.session.completed": PaymentKind.SUBSCRIBED,
    "customer.subscription.created": PaymentKind.SUBSCRIBED,
    "customer.subscription.updated": PaymentKind.SUBSCRIBED,
    "customer.subscription.deleted": PaymentKind.ENDED,
    "invoice.paid": PaymentKind.PAID,
    "invoice.payment_failed": PaymentKind.FAILED,
}
_Answer = TypeVar("_Answer")
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StripeOptions:
    """What an operator gets from Stripe's dashboard.

    Attributes:
        secret_key: Of the account.
        webhook_secret: Of the webhook endpoint.
        prices: Plan to the id of its recurring price.
        return_url: Where people come back to; public.
        api_url: Of Stripe, or of a stand-in.
    """

    secret_key: str
    webhook_secret: str
    prices: Mapping[str, str]
    return_url: str
    api_url: str


class StripePayments:
    """Stripe by its official library."""

    def __init__(self, options: StripeOptions) -> None:
        """Store the options; connections are made when they are needed."""
        self._options = options
        self._plans = {price: plan for plan, price in options.prices.items()}
        self._http = stripe.HTTPXClient(timeout=_DEADLINE_S)
        self._client = stripe.StripeClient(
            options.secret_key,
            http_client=self._http,
            max_network_retries=_RETRIES,
            base_addresses={"api": options.api_url},
        )

    def sells(self, plan: str) -> bool:
        """Whether a plan has a price there."""
        return plan in self._options.prices

    async def checkout(self, order: Order) -> str:
        """Make a Checkout Session and return its address.

        Raises:
            Unavailable: Stripe does not answer in time, or refuses us.
        """
        price = self._options.prices[order.plan]
        metadata = {"tenant_id": str(order.tenant_id), "plan": order.plan}
        session = await _asked(
            self._client.v1.checkout.sessions.create_async(
                {
                    "mode": "subscription",
                    "line_items": [{"price": price, "quantity": 1}],
                    "client_reference_id": str(order.tenant_id),
                    "metadata": metadata,
                    "subscription_data": {"metadata": metadata},
                    "success_url": f"{self._options.return_url}?checkout=done",
                    "cancel_url": f"{self._options.return_url}?checkout=cancelled",
                },
                {"idempotency_key": f"{order.key}-{price}"},
            )
        )
        if session.url is None:
            raise Unavailable("The payment provider gave no address to pay at.")
        return session.url

    async def portal(self, customer_id: str) -> str:
        """Make a session of the billing portal and return its address.

        Raises:
            Unavailable: Stripe does not answer in time, or refuses us.
        """
        session = await _asked(
            self._client.v1.billing_portal.sessions.create_async(
                {"customer": customer_id, "return_url": self._options.return_url}
            )
        )
        return session.url

    def event(self, body: bytes, signature: str) -> PaymentEvent:
        """Return what Stripe says, after a look at the signature over the raw body.

        Raises:
            BadRequest: The signature is missing, wrong or more than five minutes old, or the event
                is of another shape than Stripe's.
        """
        try:
            stripe.WebhookSignature.verify_header(
                body, signature, self._options.webhook_secret, tolerance=_TOLERANCE_S
            )
        # the library compares a signature that is no ASCII to a TypeError
        except (stripe.SignatureVerificationError, ValueError, TypeError) as error:
            raise BadRequest("The signature of the payment event is not valid.") from error
        try:
            return self._read(orjson.loads(body))
        except (LookupError, TypeError, ValueError) as error:
            raise BadRequest("The payment event cannot be read.") from error

    def _read(self, told: Mapping[str, Any]) -> PaymentEvent:
        kind = _KINDS.get(told["type"], PaymentKind.OTHER)
        facts = {} if kind is PaymentKind.OTHER else self._facts(told["data"]["object"])
        return PaymentEvent(
            id=told["id"],
            kind=kind,
            name=told["type"],
            created_at=datetime.fromtimestamp(told["created"], UTC),
            **facts,
        )

    def _facts(self, thing: Mapping[str, Any]) -> dict[str, Any]:
        match thing["object"]:
            case "checkout.session":
                paid = thing.get("payment_status") in {"paid", "no_payment_required"}
                return {
                    **_subject(thing, thing.get("subscription")),
                    "plan": (thing.get("metadata") or {}).get("plan"),
                    "is_active": paid,
                }
            case "subscription":
                price = thing["items"]["data"][0]["price"]["id"]
                return {
                    **_subject(thing, thing["id"]),
                    "plan": self._plans.get(price),
                    "price_id": price,
                    "is_active": thing["status"] in _ENTITLING,
                }
            case "invoice":
                parent = (thing.get("parent") or {}).get("subscription_details") or thing
                amount = thing.get("amount_paid") or thing.get("amount_due") or 0
                is_usd = thing.get("currency") == "usd"
                return {
                    **_subject({**parent, "customer": thing.get("customer")}, _invoiced(thing)),
                    "amount_usd": Decimal(amount) / 100 if is_usd else None,
                }
        return {}

    async def close(self) -> None:
        """Close connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]


def _invoiced(invoice: Mapping[str, Any]) -> str | None:
    """Return the subscription of an invoice: in `parent` since API version 2025-03-31."""
    details = (invoice.get("parent") or {}).get("subscription_details") or {}
    found: str | None = details.get("subscription") or invoice.get("subscription")
    return found


def _subject(thing: Mapping[str, Any], subscription_id: str | None) -> dict[str, Any]:
    """Return whose it is by our own metadata; a client reference may be a customer's words."""
    metadata = thing.get("metadata") or {}
    try:
        tenant_id = UUID(metadata.get("tenant_id") or "")
    except ValueError:
        tenant_id = None
    return {
        "tenant_id": tenant_id,
        "subscription_id": subscription_id,
        "customer_id": thing.get("customer"),
    }


async def _asked(call: Awaitable[_Answer]) -> _Answer:
    try:
        return await call
    except stripe.StripeError as error:
        _log.warning("stripe refused or was silent", kind=type(error).__name__, code=error.code)
        raise Unavailable("The payment provider does not answer. Try again in a moment.") from error
