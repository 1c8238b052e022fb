"""The parts of billing that the composition root puts together."""

from dataclasses import dataclass

from planes.shared.stores.postgres import Database
from services.gateway.billing.invoice_renderer import InvoiceRenderer
from services.gateway.billing.invoices import InvoiceService
from services.gateway.billing.payments import NoPayments, PaymentProvider
from services.gateway.billing.plan_changes import PlanChanges
from services.gateway.billing.service import BillingService
from services.gateway.billing.subscriptions import SubscriptionService
from services.gateway.limits.gate import SessionGate
from services.gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Billing:
    """The parts that routes and maintenance use."""

    usage: BillingService
    invoices: InvoiceService
    renderer: InvoiceRenderer
    subscriptions: SubscriptionService
    plan_changes: PlanChanges
    provider: PaymentProvider


def assemble(database: Database, gate: SessionGate, settings: GatewaySettings) -> Billing:
    """Return billing; nothing is opened yet."""
    provider = payment_provider(settings)
    plan_changes = PlanChanges(database, gate)
    return Billing(
        usage=BillingService(database),
        invoices=InvoiceService(database),
        renderer=InvoiceRenderer(),
        subscriptions=SubscriptionService(database, provider, plan_changes),
        plan_changes=plan_changes,
        provider=provider,
    )


def payment_provider(settings: GatewaySettings) -> PaymentProvider:
    """Return the provider that is configured, or one that says that there is none."""
    key, secret = settings.stripe_secret_key, settings.stripe_webhook_secret
    if key is None or secret is None or settings.public_url is None:
        return NoPayments()
    # here, because the library is large and most installations never need it
    from services.gateway.billing.stripe_payments import StripeOptions, StripePayments

    return StripePayments(
        StripeOptions(
            secret_key=key.get_secret_value(),
            webhook_secret=secret.get_secret_value(),
            prices=settings.stripe_prices,
            return_url=settings.public_url,
            api_url=settings.stripe_api_url,
        )
    )
