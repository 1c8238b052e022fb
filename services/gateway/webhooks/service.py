"""What admins do with webhooks."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import httpx
import orjson

from planes.shared.domain import TenantContext, new_id
from planes.shared.errors import InvalidInput, NotFound
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.billing.features import Feature, require_feature
from services.gateway.idempotency.service import Effect
from services.gateway.outbound import AddressRefused, Networks, checked_addresses
from services.gateway.webhooks import repository
from services.gateway.webhooks.repository import NewRow
from services.gateway.webhooks.schemas import TestAnswer, WebhookInput
from services.gateway.webhooks.signing import SecretSeal, new_secret, shown

_MOST = 20
_RESOLVE_S = 5.0
_RESOLVERS = 4  # their own: names that never resolve must not hold up the reading of files


@dataclass(frozen=True, slots=True)
class Made:
    """A webhook that was just made, and its secret."""

    row: asyncpg.Record
    secret: str


class WebhookService:
    """The tenant's webhooks."""

    def __init__(self, database: Database, seal: SecretSeal, allowed_networks: Networks) -> None:
        """Store where webhooks are kept, how their secrets are, and where they may lead."""
        self._database = database
        self._seal = seal
        self._allowed_networks = allowed_networks
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, "webhook-resolver")

    async def make(self, wanted: WebhookInput, account: Account) -> Made:
        """Make a webhook and return its secret this once.

        Raises:
            InvalidInput: The host may not be reached.
            Forbidden: The plan has no webhooks.
            Conflict: The tenant has as many as it may have.
        """
        await self._check(wanted.url)
        webhook_id, secret, context = new_id(), new_secret(), account.context
        sealed = self._seal.close(webhook_id, secret)
        events = sorted({event.value for event in wanted.events})
        async with self._database.tenant(context.tenant_id) as connection:
            await require_feature(connection, context.tenant_id, Feature.WEBHOOKS)
            new = NewRow(webhook_id, wanted.url, events, sealed)
            row = await repository.insert(connection, context, new, _MOST)
            await record(connection, _act(Action.WEBHOOK_MADE, account, webhook_id))
        return Made(row, shown(secret))

    async def find(self, webhook_id: UUID, context: TenantContext) -> asyncpg.Record:
        """Return a webhook.

        Raises:
            NotFound: There is none of that id in this tenant.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find(connection, context, webhook_id)

    async def page(
        self, before: UUID | None, limit: int, context: TenantContext
    ) -> list[asyncpg.Record]:
        """Return a part of the list, newest first."""
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.page(connection, context, before, limit)

    async def delete(self, webhook_id: UUID, account: Account) -> None:
        """Delete a webhook; what waits for it is not sent any more.

        Raises:
            NotFound: There is none of that id in this tenant.
        """
        async with self._database.tenant(account.context.tenant_id) as connection:
            if not await repository.delete(connection, account.context, webhook_id):
                raise NotFound("There is no such webhook.")
            await record(connection, _act(Action.WEBHOOK_DELETED, account, webhook_id))

    async def test(self, webhook_id: UUID, context: TenantContext, effect: Effect) -> TestAnswer:
        """Send a `ping`; where it is delivered, a paused webhook goes on.

        Raises:
            NotFound: There is none of that id in this tenant.
        """
        delivery_id = new_id()
        async with self._database.tenant(context.tenant_id) as connection:
            await repository.find(connection, context, webhook_id)
            await repository.insert_delivery(
                connection, context, webhook_id, (delivery_id, _ping(webhook_id))
            )
            answer = TestAnswer(delivery_id=delivery_id)
            await effect.record(connection, 202, answer)
        return answer

    async def _check(self, address: str) -> None:
        url = httpx.URL(address)
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            async with asyncio.timeout(_RESOLVE_S):
                await checked_addresses(
                    url.raw_host.decode("ascii"),
                    port,
                    self._allowed_networks,
                    executor=self._resolvers,
                )
        except AddressRefused as error:
            fields = [{"pointer": "/body/url", "detail": error.detail}]
            raise InvalidInput(error.detail, extensions={"errors": fields}) from error
        except TimeoutError as error:
            raise InvalidInput("The name of the URL's host cannot be resolved.") from error


def _ping(webhook_id: UUID) -> str:
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    body = {"type": "ping", "timestamp": now, "data": {"webhook_id": str(webhook_id)}}
    return orjson.dumps(body).decode()


def _act(action: Action, account: Account, webhook_id: UUID) -> AuditEvent:
    return AuditEvent(account.context.tenant_id, action, account, subject=f"webhook:{webhook_id}")
