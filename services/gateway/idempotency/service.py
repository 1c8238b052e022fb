"""Each request has its effect once, however often it is sent.

An attempt takes the key, in a transaction of its own, before any work. It stores what it answers in
the transaction of its effect, and only if it still has the key: so two attempts never both commit,
and an attempt that dies leaves nothing behind but a key that is free again when its lease runs out.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel

from planes.shared.domain import new_id
from planes.shared.errors import Conflict, InvalidInput, Unavailable
from planes.shared.stores.postgres import Connection, Database
from services.gateway.idempotency import repository
from services.gateway.idempotency.models import AnswerPlace, Earlier, RequestId, StoredResponse

_CLAIM_TRIES = 3
_SWEPT_AT_ONCE = 1000
_SOON_S = 2.0  # within which most attempts have their effect
_IN_FLIGHT = "The request with this `Idempotency-Key` is still being worked on."


class Replayed(Exception):
    """The request had its effect before; `response` is what it was answered then."""

    def __init__(self, response: StoredResponse) -> None:
        """Store the response."""
        super().__init__()
        self.response = response


class AnswerUnderWay(Conflict):
    """The request is being answered; `place` is where its answer will stand."""

    def __init__(self, place: AnswerPlace, *, retry_after_s: int) -> None:
        """Store the place."""
        super().__init__(_IN_FLIGHT, retry_after_s=retry_after_s)
        self.place = place


class Effect:
    """What a service tells of the effect of its request, inside its own transaction.

    Attributes:
        answered: Where the answer to the same request stands already; nothing is left to do.
    """

    def __init__(
        self, request: RequestId | None = None, *, answered: AnswerPlace | None = None
    ) -> None:
        """Store whose effect this is; a request without a key has nothing to tell."""
        self.answered = answered
        self.attempt = new_id()
        self._request = request

    @property
    def is_keyed(self) -> bool:
        """Whether the client may repeat the request."""
        return self._request is not None

    async def record(self, connection: Connection, status: int, body: BaseModel) -> None:
        """Store the answer, as the last statement of the transaction that has the effect.

        Args:
            connection: In the caller's tenant, inside that transaction.
            status: The HTTP status of the answer.
            body: The answer.

        Raises:
            Conflict: Another attempt has taken over; the transaction must be rolled back.
        """
        if self._request is not None:
            response = StoredResponse(status, body.model_dump_json(by_alias=True))
            _check(await repository.complete(connection, self._request, self.attempt, response))

    async def record_answer(self, connection: Connection, place: AnswerPlace) -> None:
        """Store where the answer will be, in the transaction that reserves its cost.

        Raises:
            Conflict: Another attempt has taken over; the transaction must be rolled back.
        """
        if self._request is not None:
            _check(await repository.point_to_answer(connection, self._request, self.attempt, place))


class IdempotencyService:
    """Gives keys to attempts and remembers what requests were answered."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    @asynccontextmanager
    async def attempt(self, request: RequestId, fingerprint: bytes) -> AsyncIterator[Effect]:
        """Hold a key while the block runs; a block that fails frees it, unless it had its effect.

        Raises:
            Replayed: The request had its effect before.
            Conflict: Another attempt is in flight.
            InvalidInput: The key stands for another request.
            Unavailable: The database does not answer; nothing was done.
        """
        effect = await self._claim(request, fingerprint)
        try:
            yield effect
        except BaseException:
            if effect.answered is None:
                await asyncio.shield(self._give_up(request, effect))
            raise

    async def forget_expired(self) -> int:
        """Remove requests that are older than a client may repeat them; returns how many."""
        removed = 0
        while True:
            async with self._database.platform() as connection:
                count = await repository.forget_expired(connection, _SWEPT_AT_ONCE)
            removed += count
            if count < _SWEPT_AT_ONCE:
                return removed

    async def _claim(self, request: RequestId, fingerprint: bytes) -> Effect:
        effect = Effect(request)
        for _ in range(_CLAIM_TRIES):  # a key may become free between two statements
            async with self._database.tenant(request.context.tenant_id) as connection:
                if await repository.claim(connection, request, effect.attempt, fingerprint):
                    return effect
                earlier = await repository.find(connection, request)
                if earlier is None:
                    continue
                if not earlier.is_given_back:
                    return _outcome(earlier, request, fingerprint)
                new = (effect.attempt, fingerprint)
                if await repository.take_over(connection, request, new, earlier.attempt):
                    return effect
        raise Conflict(_IN_FLIGHT, retry_after_s=2)

    async def _give_up(self, request: RequestId, effect: Effect) -> None:
        with contextlib.suppress(Unavailable):  # the lease runs out
            async with self._database.tenant(request.context.tenant_id) as connection:
                await repository.give_up(connection, request, effect.attempt)


def _outcome(earlier: Earlier, request: RequestId, fingerprint: bytes) -> Effect:
    """Return the effect of an answer that stands already.

    Raises:
        InvalidInput: The key stands for another request.
        Replayed: The answer is stored.
        AnswerUnderWay: The other attempt's answer is.
        Conflict: The other attempt is in flight.
    """
    if earlier.fingerprint != fingerprint:
        raise InvalidInput(
            "This `Idempotency-Key` was used for another request. Use a new one for each request, "
            "and the same one only to repeat it unchanged."
        )
    if earlier.response is not None:
        raise Replayed(earlier.response)
    if earlier.settled is not None:
        return Effect(request, answered=earlier.settled)
    is_new = earlier.lease_left_s > repository.LEASE.total_seconds() - _SOON_S
    retry_after_s = 1 if is_new else max(1, math.ceil(earlier.lease_left_s))
    if earlier.under_way is not None:
        raise AnswerUnderWay(earlier.under_way, retry_after_s=retry_after_s)
    raise Conflict(_IN_FLIGHT, retry_after_s=retry_after_s)


def _check(is_holder: bool) -> None:
    if not is_holder:
        raise Conflict("The request took too long and was repeated meanwhile.", retry_after_s=2)
