"""Sends what waits, at least once each, with the same id every time.

A delivery is leased, sent and noted. A process that dies in between leaves a lease that runs out,
and another one sends again. Several gateways may work off one database.
"""

import asyncio
import random
import time
from datetime import timedelta

import httpx
import structlog

from planes.shared.errors import PlatformError
from planes.shared.stores.postgres import Database
from services.gateway.outbound import AddressRefused
from services.gateway.webhooks import repository
from services.gateway.webhooks.repository import Delivery, Failure, Patience
from services.gateway.webhooks.signing import SecretSeal, SecretUnreadable, signed_headers

_AT_ONCE = 20
_DEADLINE_S = 10.0
_LEASE = timedelta(seconds=30)  # longer than an attempt takes with its noting
_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 3600.0
_READ_BYTES = 16 * 1024
_KEPT = timedelta(days=7)
_GONE = 410
PATIENCE = Patience(give_up_after=timedelta(hours=24), pause_after=timedelta(days=3))
_NO_ANSWER = (
    *(SecretUnreadable, AddressRefused, TimeoutError, httpx.HTTPError, httpx.InvalidURL),
    UnicodeError,  # httpx: a redirect to a name that is none in IDNA
)
_log = structlog.get_logger(__name__)


class WebhookSender:
    """Sends due deliveries, so many at once."""

    def __init__(
        self,
        database: Database,
        client: httpx.AsyncClient,
        seal: SecretSeal,
        patience: Patience = PATIENCE,
    ) -> None:
        """Store where deliveries wait, what sends them, and what opens their secrets.

        Args:
            database: Where they wait.
            client: Of `outbound_client`: it refuses addresses that are not public.
            seal: Opens the webhooks' secrets.
            patience: How long failures are repeated.
        """
        self._database = database
        self._client = client
        self._seal = seal
        self._patience = patience
        self._sending: set[asyncio.Task[None]] = set()

    async def drain(self) -> None:
        """Begin to send all that is due, at most 20 at once; returns when the last has begun."""
        while True:
            free = _AT_ONCE - len(self._sending)
            if free <= 0:
                await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
                continue
            claimed = await repository.claim(self._database, free, _LEASE)
            for delivery in claimed:
                task = asyncio.create_task(self._deal_with(delivery))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
            if not claimed:
                return

    async def prune(self) -> None:
        """Give up what has waited for a day, and forget what ended a week ago."""
        given_up = await repository.prune(self._database, self._patience.give_up_after, _KEPT)
        if given_up:
            _log.warning("webhook deliveries given up", deliveries=given_up)

    async def close(self) -> None:
        """Stop; what is under way is sent again by another process."""
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)

    async def _deal_with(self, delivery: Delivery) -> None:
        try:
            outcome = await self._send(delivery)
            async with self._database.tenant(delivery.tenant_id) as connection:
                if isinstance(outcome, int):
                    await repository.note_delivered(connection, delivery, outcome)
                    return
                is_paused = await repository.note_failed(
                    connection, delivery, outcome, self._patience
                )
        except PlatformError as error:  # the lease runs out
            _log.warning("webhook delivery not noted", reason=error.detail)
            return
        except Exception:
            _log.exception("webhook delivery failed", delivery_id=str(delivery.id))
            return
        _log.info(
            "webhook delivery failed",
            webhook_id=str(delivery.webhook_id),
            delivery_id=str(delivery.id),
            attempts=delivery.attempts,
            reason=outcome.reason,
            is_paused=is_paused,
        )

    async def _send(self, delivery: Delivery) -> int | Failure:
        """Make one attempt; return the status of a success, or how it failed."""
        pause = _pause(delivery.failures)
        try:
            secret = self._seal.open(delivery.webhook_id, delivery.sealed_secret)
            async with asyncio.timeout(_DEADLINE_S):
                status, retry_after_s = await self._post(delivery, secret)
        except _NO_ANSWER as error:
            return Failure(None, _reason(error), pause)
        if 200 <= status < 300:
            return status
        reason = "redirects are not followed" if 300 <= status < 400 else f"answered {status}"
        pause = max(pause, timedelta(seconds=retry_after_s))
        return Failure(status, reason, pause, is_final=status == _GONE)

    async def _post(self, delivery: Delivery, secret: bytes) -> tuple[int, float]:
        """Return the status of the answer, and for how long it asks us to wait."""
        headers = {
            **signed_headers(secret, str(delivery.id), int(time.time()), delivery.body),
            "content-type": "application/json",
            "user-agent": "Polyplane-Webhooks/1",
        }
        request = self._client.stream(
            "POST", delivery.url, content=delivery.body.encode(), headers=headers
        )
        async with request as response:
            await _skim(response)
            return response.status_code, _retry_after_s(response)


async def _skim(response: httpx.Response) -> None:
    """Let the receiver finish a short answer; nothing of it is kept."""
    read = 0
    async for block in response.aiter_raw(_READ_BYTES):
        read += len(block)
        if read >= _READ_BYTES:
            return


def _retry_after_s(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "")
    return min(float(value), _LONGEST_PAUSE_S) if value.isascii() and value.isdigit() else 0.0


def _pause(failures: int) -> timedelta:
    """Return 5, 10, 20 ... seconds, an hour at most, give or take a fifth."""
    pause_s = min(_FIRST_PAUSE_S * 2 ** min(failures, 20), _LONGEST_PAUSE_S)
    return timedelta(seconds=pause_s * random.uniform(0.8, 1.2))  # noqa: S311 (jitter)


def _reason(error: Exception) -> str:
    match error:
        case SecretUnreadable():
            return "the secret cannot be read: make the webhook anew"
        case AddressRefused():
            return "the host has no address on the public internet"
        case TimeoutError() | httpx.TimeoutException():
            return f"no answer within {_DEADLINE_S:.0f} s"
        case httpx.ConnectError():
            return "no connection, or a certificate that is not valid"
    return "the connection broke"
