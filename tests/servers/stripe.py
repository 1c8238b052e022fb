"""A double of the part of Stripe's HTTP API that we use, and events signed as Stripe signs them.

It checks of a request what the real one checks first: the key, the parameters, the idempotency key.
"""

import asyncio
import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SECRET_KEY = "sk_test_1234567890"
WEBHOOK_SECRET = "whsec_1234567890"
PRICES = {"pro": "price_pro", "enterprise": "price_enterprise"}


@dataclass
class FakeStripe:
    """What was ordered; `failures` are the statuses of the next answers."""

    sessions: list[dict[str, str]] = field(default_factory=list)
    portals: list[dict[str, str]] = field(default_factory=list)
    attempts: int = 0
    failures: list[int] = field(default_factory=list)
    hold: asyncio.Event | None = None
    _answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def app(self) -> Starlette:
        """Return the double as an ASGI application."""
        return Starlette(
            routes=[
                Route("/v1/checkout/sessions", self._checkout, methods=["POST"]),
                Route("/v1/billing_portal/sessions", self._portal, methods=["POST"]),
            ]
        )

    async def _checkout(self, request: Request) -> Response:
        form, refusal = await self._read(request)
        if refusal is not None:
            return refusal
        for name in ("mode", "line_items[0][price]", "success_url", "client_reference_id"):
            if name not in form:
                return _error(400, "invalid_request_error", f"Missing required param: {name}.")
        if form["line_items[0][price]"] not in PRICES.values():
            return _error(400, "invalid_request_error", "No such price.")
        key = request.headers["idempotency-key"]
        if key not in self._answers:
            self.sessions.append(form)
            session_id = f"cs_test_{uuid4().hex}"
            self._answers[key] = {
                "id": session_id,
                "object": "checkout.session",
                "url": f"https://checkout.stripe.com/c/pay/{session_id}",
            }
        return JSONResponse(self._answers[key])

    async def _portal(self, request: Request) -> Response:
        form, refusal = await self._read(request)
        if refusal is not None:
            return refusal
        self.portals.append(form)
        portal_id = f"bps_{uuid4().hex}"
        url = f"https://billing.stripe.com/p/session/{portal_id}"
        return JSONResponse({"id": portal_id, "object": "billing_portal.session", "url": url})

    async def _read(self, request: Request) -> tuple[dict[str, str], Response | None]:
        self.attempts += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            return {}, _error(self.failures.pop(0), "api_error", "Something went wrong.")
        if request.headers["authorization"] != f"Bearer {SECRET_KEY}":
            return {}, _error(401, "invalid_request_error", "Invalid API Key provided.")
        form = await request.form()
        return {name: str(value) for name, value in form.items()}, None


def _error(status: int, kind: str, message: str) -> Response:
    return JSONResponse({"error": {"type": kind, "message": message}}, status)


def event(kind: str, thing: dict[str, Any], *, created: int, event_id: str = "") -> bytes:
    """Return an event's body."""
    told = {
        "id": event_id or f"evt_{uuid4().hex}",
        "object": "event",
        "type": kind,
        "created": created,
        "data": {"object": thing},
    }
    return json.dumps(told).encode()


def checkout_session(tenant_id: str, plan: str, subscription: str) -> dict[str, Any]:
    """Return a completed Checkout Session."""
    return {
        "id": "cs_test_1",
        "object": "checkout.session",
        "mode": "subscription",
        "payment_status": "paid",
        "client_reference_id": tenant_id,
        "customer": "cus_1",
        "subscription": subscription,
        "metadata": {"tenant_id": tenant_id, "plan": plan},
    }


def subscription(
    tenant_id: str | None, plan: str, subscription_id: str, status: str = "active"
) -> dict[str, Any]:
    """Return a subscription."""
    return {
        "id": subscription_id,
        "object": "subscription",
        "status": status,
        "customer": "cus_1",
        "metadata": {} if tenant_id is None else {"tenant_id": tenant_id, "plan": "as ordered"},
        "items": {"object": "list", "data": [{"price": {"id": PRICES.get(plan, plan)}}]},
    }


def invoice(tenant_id: str, subscription_id: str, **amounts: int) -> dict[str, Any]:
    """Return an invoice of a subscription; amounts are cents."""
    details = {"subscription": subscription_id, "metadata": {"tenant_id": tenant_id}}
    return {
        "id": "in_1",
        "object": "invoice",
        "customer": "cus_1",
        "currency": "usd",
        "parent": {"type": "subscription_details", "subscription_details": details},
        **amounts,
    }


def signature(body: bytes, *, secret: str = WEBHOOK_SECRET, at: float | None = None) -> str:
    """Return `Stripe-Signature`: HMAC-SHA256 over the time, a dot and the raw body."""
    seconds = int(time.time() if at is None else at)
    signed = f"{seconds}.".encode() + body
    return f"t={seconds},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
