"""Stripe behind its port: our HTTP calls against a double, its events with real signatures."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from planes.shared.stores.postgres import Database
from services.gateway.settings import GatewaySettings
from tests.integration.gateway.conftest import Gateway, Person, served
from tests.integration.gateway.test_billing import admin, execute, fetch, set_plan
from tests.servers import stripe
from tests.servers.stripe import FakeStripe

__all__ = ["admin"]  # a fixture
NOW = int(time.time())
# Stripe's library passes a form in a way that httpx deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
WEBHOOK = "/billing/webhooks/stripe"


@dataclass
class Shop:
    """A gateway that takes payments."""

    stripe: FakeStripe
    gateway: Gateway
    person: Person

    async def tell(self, kind: str, thing: dict[str, Any], *, created: int = NOW) -> None:
        """Deliver an event as Stripe does."""
        await self.deliver(stripe.event(kind, thing, created=created))

    async def deliver(self, body: bytes) -> None:
        answer = await post_event(self.person, body, stripe.signature(body))
        assert answer.status_code == 200, answer.text

    async def plan(self) -> str:
        return str((await self.person.http.get("/billing/plans")).json()["current"])

    async def subscribe(self, plan: str, **headers: str) -> httpx.Response:
        body = {"plan": plan}
        return await self.person.http.post("/billing/subscription", json=body, headers=headers)


async def post_event(person: Person, body: bytes, signature: str | bytes) -> httpx.Response:
    async with httpx.AsyncClient(base_url=person.http.base_url) as anybody:
        return await anybody.post(WEBHOOK, content=body, headers={"stripe-signature": signature})


@pytest.fixture
async def double() -> FakeStripe:
    return FakeStripe()


@pytest.fixture
async def overrides(double: FakeStripe) -> AsyncIterator[dict[str, object]]:
    async with served(double.app()) as url:
        yield {
            "stripe_secret_key": stripe.SECRET_KEY,
            "stripe_webhook_secret": stripe.WEBHOOK_SECRET,
            "stripe_prices": stripe.PRICES,
            "stripe_api_url": url,
            "public_url": "https://chat.example.com",
        }


@pytest.fixture
async def shop(double: FakeStripe, gateway: Gateway, person: Person) -> Shop:
    return Shop(double, gateway, person)


async def test_an_owner_is_sent_to_checkout(shop: Shop) -> None:
    answer = await shop.subscribe("pro")
    assert answer.status_code == 201, answer.text
    assert answer.json()["checkout_url"].startswith("https://checkout.stripe.com/")
    (ordered,) = shop.stripe.sessions
    assert ordered["mode"] == "subscription"
    assert ordered["line_items[0][price]"] == "price_pro"
    assert ordered["client_reference_id"] == shop.person.tenant_id
    assert ordered["subscription_data[metadata][tenant_id]"] == shop.person.tenant_id
    assert ordered["success_url"].startswith("https://chat.example.com")
    assert await shop.plan() == "free", "nothing is paid yet"


async def test_two_clicks_make_one_order(shop: Shop) -> None:
    answers = await asyncio.gather(*(shop.subscribe("pro") for _ in range(3)))
    assert len({answer.json()["checkout_url"] for answer in answers}) == 1
    assert len(shop.stripe.sessions) == 1


async def test_a_repeat_with_an_idempotency_key_is_answered_as_before(shop: Shop) -> None:
    first = await shop.subscribe("pro", **{"idempotency-key": "a-key"})
    again = await shop.subscribe("pro", **{"idempotency-key": "a-key"})
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert shop.stripe.attempts == 1
    other = await shop.subscribe("enterprise", **{"idempotency-key": "a-key"})
    assert other.status_code == 422


async def test_a_hiccup_of_stripe_is_tried_once_more_with_the_same_key(shop: Shop) -> None:
    shop.stripe.failures = [500]
    assert (await shop.subscribe("pro")).status_code == 201
    assert shop.stripe.attempts == 2
    assert len(shop.stripe.sessions) == 1


async def test_a_broken_stripe_is_a_503_that_may_be_repeated(shop: Shop) -> None:
    shop.stripe.failures = [500, 500]
    answer = await shop.subscribe("pro")
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await shop.subscribe("pro")).status_code == 201


async def test_unknown_present_and_unsold_plans_are_refused(shop: Shop) -> None:
    assert (await shop.subscribe("gold")).status_code == 422
    assert (await shop.subscribe("free")).status_code == 409
    await set_plan(shop.gateway, shop.person, "pro")
    assert (await shop.subscribe("pro")).status_code == 409
    assert (await shop.subscribe("free")).status_code == 409
    assert shop.stripe.attempts == 0


async def test_a_completed_checkout_gives_the_plan_once(shop: Shop, admin: Database) -> None:
    session = stripe.checkout_session(shop.person.tenant_id, "pro", "sub_1")
    body = stripe.event("checkout.session.completed", session, created=NOW)
    await asyncio.gather(*(shop.deliver(body) for _ in range(5)))
    assert await shop.plan() == "pro"
    assert len(await fetch(admin, "SELECT FROM plan_changes")) == 1
    assert len(await fetch(admin, "SELECT FROM payment_events")) == 1
    events = await fetch(admin, "SELECT * FROM audit_log WHERE action = 'plan.changed'")
    assert [event["actor_kind"] for event in events] == ["system"]
    charges = await fetch(admin, "SELECT cost_usd FROM ledger WHERE kind = 'subscription'")
    assert [row["cost_usd"] for row in charges] == [29]
    limits = (await shop.person.http.get("/auth/me")).headers["ratelimit-policy"]
    assert '"requests";q=3000' in limits


async def test_a_subscriber_changes_and_cancels_in_the_portal(shop: Shop) -> None:
    tenant = shop.person.tenant_id
    await shop.tell("checkout.session.completed", stripe.checkout_session(tenant, "pro", "sub_1"))
    for plan in ("enterprise", "free"):
        answer = await shop.subscribe(plan)
        assert answer.json()["checkout_url"].startswith("https://billing.stripe.com/")
    assert [portal["customer"] for portal in shop.stripe.portals] == ["cus_1", "cus_1"]
    assert shop.stripe.sessions == [], "a second subscription would be paid twice"
    changed = stripe.subscription(tenant, "enterprise", "sub_1")
    await shop.tell("customer.subscription.updated", changed, created=NOW + 10)
    assert await shop.plan() == "enterprise"
    await shop.tell("customer.subscription.deleted", changed, created=NOW + 20)
    assert await shop.plan() == "free"


async def test_the_newest_event_decides_in_whatever_order_they_come(
    shop: Shop, admin: Database
) -> None:
    tenant = shop.person.tenant_id
    pro, big = (stripe.subscription(tenant, plan, "sub_1") for plan in ("pro", "enterprise"))
    begun = stripe.subscription(tenant, "pro", "sub_1", status="incomplete")
    await shop.tell("customer.subscription.updated", big, created=NOW + 10)
    await shop.tell("customer.subscription.updated", pro, created=NOW + 5)
    await shop.tell("customer.subscription.created", begun, created=NOW)
    session = stripe.checkout_session(tenant, "pro", "sub_1")
    await shop.tell("checkout.session.completed", session, created=NOW + 1)
    assert await shop.plan() == "enterprise"
    await shop.tell("customer.subscription.deleted", big, created=NOW + 30)
    await shop.tell("customer.subscription.updated", big, created=NOW + 30)
    await shop.tell("customer.subscription.updated", big, created=NOW + 40)
    assert await shop.plan() == "free", "what was deleted does not come back"
    effects = await fetch(admin, "SELECT effect FROM payment_events ORDER BY received_at")
    assert [row["effect"] for row in effects] == [
        "applied", "stale", "stale", "stale", "applied", "stale", "stale"
    ]  # fmt: skip


async def test_in_one_second_an_active_subscription_wins_over_its_beginning(shop: Shop) -> None:
    tenant = shop.person.tenant_id
    await shop.tell("customer.subscription.updated", stripe.subscription(tenant, "pro", "sub_1"))
    begun = stripe.subscription(tenant, "pro", "sub_1", status="incomplete")
    await shop.tell("customer.subscription.created", begun)
    assert await shop.plan() == "pro"


async def test_an_old_subscription_that_ends_late_does_not_end_the_new_one(shop: Shop) -> None:
    tenant = shop.person.tenant_id
    old, new = (stripe.subscription(tenant, "pro", name) for name in ("sub_1", "sub_2"))
    await shop.tell("customer.subscription.updated", old)
    await shop.tell("customer.subscription.updated", new, created=NOW + 10)
    await shop.tell("customer.subscription.deleted", old, created=NOW + 20)
    assert await shop.plan() == "pro"


async def test_unpaid_ends_the_plan_and_past_due_does_not(shop: Shop, admin: Database) -> None:
    tenant = shop.person.tenant_id
    await shop.tell("customer.subscription.updated", stripe.subscription(tenant, "pro", "sub_1"))
    failed = stripe.invoice(tenant, "sub_1", amount_due=2900)
    await shop.tell("invoice.payment_failed", failed, created=NOW + 1)
    late = stripe.subscription(tenant, "pro", "sub_1", status="past_due")
    await shop.tell("customer.subscription.updated", late, created=NOW + 2)
    assert await shop.plan() == "pro"
    await shop.tell("invoice.paid", stripe.invoice(tenant, "sub_1", amount_paid=2900))
    unpaid = stripe.subscription(None, "pro", "sub_1", status="unpaid")
    await shop.tell("customer.subscription.updated", unpaid, created=NOW + 3)
    assert await shop.plan() == "free"
    events = await fetch(
        admin, "SELECT action, details FROM audit_log WHERE action LIKE 'payment.%' ORDER BY id"
    )
    assert [(event["action"], event["details"]) for event in events] == [
        ("payment.failed", {"amount_usd": "29.0000000000"}),
        ("payment.received", {"amount_usd": "29.0000000000"}),
    ]


async def test_a_plan_that_the_operator_set_stays_while_the_subscription_does(shop: Shop) -> None:
    tenant = shop.person.tenant_id
    pro = stripe.subscription(tenant, "pro", "sub_1")
    await shop.tell("customer.subscription.updated", pro)
    await set_plan(shop.gateway, shop.person, "enterprise")
    await shop.tell("customer.subscription.updated", pro, created=NOW + 10)
    await shop.tell("customer.subscription.deleted", pro, created=NOW + 20)
    assert await shop.plan() == "enterprise"


async def test_events_about_nobody_and_nothing_are_noted_and_answered(
    shop: Shop, admin: Database
) -> None:
    nobody = "01a1fd26-1267-7285-bf84-61d8d204dc7a"
    await shop.tell("customer.subscription.updated", stripe.subscription(nobody, "pro", "sub_9"))
    await shop.tell("customer.subscription.updated", stripe.subscription(None, "pro", "sub_9"))
    await shop.tell("customer.created", {"id": "cus_1", "object": "customer"})
    tenant = shop.person.tenant_id
    foreign = stripe.subscription(tenant, "price_of_something_else", "sub_8")
    await shop.tell("customer.subscription.updated", foreign)
    effects = await fetch(admin, "SELECT effect FROM payment_events ORDER BY received_at")
    assert [row["effect"] for row in effects] == [*["unknown-tenant"] * 3, "ignored"]
    assert await shop.plan() == "free"


async def test_a_subscription_never_moves_to_another_tenant(shop: Shop, stranger: Person) -> None:
    tenant = shop.person.tenant_id
    await shop.tell("customer.subscription.updated", stripe.subscription(tenant, "pro", "sub_1"))
    moved = stripe.subscription(stranger.tenant_id, "enterprise", "sub_1")
    await shop.tell("customer.subscription.updated", moved, created=NOW + 1)
    assert await shop.plan() == "enterprise"
    assert (await stranger.http.get("/billing/plans")).json()["current"] == "free"


async def test_words_of_the_customer_name_no_tenant(shop: Shop, stranger: Person) -> None:
    session = stripe.checkout_session(stranger.tenant_id, "pro", "sub_1")
    session["metadata"] = {"plan": "pro"}  # as of a payment link that the operator made
    await shop.tell("checkout.session.completed", session)
    assert (await stranger.http.get("/billing/plans")).json()["current"] == "free"


async def test_a_price_that_is_sold_no_more_keeps_its_plan_and_a_foreign_one_gives_none(
    shop: Shop,
) -> None:
    tenant = shop.person.tenant_id
    await shop.tell("checkout.session.completed", stripe.checkout_session(tenant, "pro", "sub_1"))
    old = stripe.subscription(tenant, "price_of_last_year", "sub_1")
    await shop.tell("customer.subscription.updated", old, created=NOW + 1)
    assert await shop.plan() == "pro"
    cheap = stripe.subscription(tenant, "price_of_a_sticker", "sub_1")
    for later in (2, 3):
        await shop.tell("customer.subscription.updated", cheap, created=NOW + later)
        assert await shop.plan() == "free"
    await shop.tell("customer.subscription.updated", old, created=NOW + 4)
    assert await shop.plan() == "pro"


async def test_a_plan_that_is_gone_entitles_to_nothing_new(shop: Shop) -> None:
    tenant = shop.person.tenant_id
    gone = stripe.checkout_session(tenant, "gold", "sub_1")
    await shop.tell("checkout.session.completed", gone)
    await shop.tell("customer.subscription.updated", stripe.subscription(tenant, "pro", "sub_2"))
    gone = stripe.checkout_session(tenant, "gold", "sub_2")
    await shop.tell("checkout.session.completed", gone, created=NOW + 1)
    assert await shop.plan() == "pro"


async def test_events_of_other_shapes_are_refused_or_ignored_but_never_our_error(
    shop: Shop, admin: Database
) -> None:
    for body in (b"", b"[]", b"{}", b"\xff", b'{"type": "invoice.paid", "id": "evt_1"}'):
        answer = await post_event(shop.person, body, stripe.signature(body))
        assert answer.status_code == 400, body
    unknown = json.dumps({"id": "evt_2", "type": "v2.thing", "created": NOW}).encode()
    await shop.deliver(unknown)
    effects = await fetch(admin, "SELECT effect FROM payment_events")
    assert [row["effect"] for row in effects] == ["unknown-tenant"]


async def test_events_of_a_deleted_tenant_change_nothing(shop: Shop, admin: Database) -> None:
    tenant = shop.person.tenant_id
    pro = stripe.subscription(tenant, "pro", "sub_1")
    await shop.tell("customer.subscription.updated", pro)
    await execute(admin, "UPDATE tenants SET deleted_at = now()")
    await shop.tell("customer.subscription.deleted", pro, created=NOW + 10)
    effects = await fetch(admin, "SELECT effect FROM payment_events ORDER BY received_at")
    assert [row["effect"] for row in effects] == ["applied", "unknown-tenant"]


async def test_only_stripe_can_tell_us_anything(shop: Shop, admin: Database) -> None:
    session = stripe.checkout_session(shop.person.tenant_id, "pro", "sub_1")
    body = stripe.event("checkout.session.completed", session, created=NOW)
    for signature in (
        "",
        "nonsense",
        f"t={NOW},v1=",
        f"t={NOW},v1=\xe9".encode("latin-1"),
        stripe.signature(body, secret="whsec_another"),
        stripe.signature(body + b" "),
        stripe.signature(body, at=NOW - 400),
        stripe.signature(body).replace("v1=", "v0="),
    ):
        assert (await post_event(shop.person, body, signature)).status_code == 400
    assert await shop.plan() == "free"
    assert not await fetch(admin, "SELECT FROM payment_events")


class TestWithoutAProvider:
    """Plans are the operator's."""

    @pytest.fixture
    def overrides(self) -> dict[str, object]:
        return {}

    async def test_the_operator_sets_plans(self, person: Person) -> None:
        body = {"plan": "pro"}
        answer = await person.http.post("/billing/subscription", json=body)
        assert answer.status_code == 409
        assert "polyplane admin set-plan" in answer.json()["detail"]

    async def test_there_is_no_webhook(self, person: Person) -> None:
        body = stripe.event("invoice.paid", {"object": "invoice"}, created=NOW)
        assert (await post_event(person, body, stripe.signature(body))).status_code == 404


def settings_of(given: dict[str, object]) -> GatewaySettings:
    return GatewaySettings(
        database_url="postgresql://localhost/x",
        redis_url="redis://localhost",
        objects_dir="/tmp/x",  # noqa: S108
        serving_token_secret="s" * 32,
        refresh_secret="r" * 32,
        keys_dir="/tmp/x",  # noqa: S108
        **given,
    )


def test_a_price_of_two_plans_is_refused(overrides: dict[str, object]) -> None:
    prices = {"pro": "price_1", "enterprise": "price_1"}
    with pytest.raises(ValidationError, match="GATEWAY_STRIPE_PRICES"):
        settings_of({**overrides, "stripe_prices": prices})


@pytest.mark.parametrize(
    "missing", ["stripe_secret_key", "stripe_webhook_secret", "stripe_prices", "public_url"]
)
def test_half_given_settings_are_refused(overrides: dict[str, object], missing: str) -> None:
    given = {**overrides, missing: {} if missing == "stripe_prices" else None}
    with pytest.raises(ValidationError, match=f"GATEWAY_{missing.upper()}"):
        settings_of(given)
