"""Reservations and settlements of answers that wait at the same time share a commit."""

from collections.abc import Sequence
from decimal import Decimal
from uuid import UUID

from planes.shared.domain import TenantContext
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.stores.postgres import Database, was_rolled_back
from planes.shared.together import NotTogether, Together
from services.gateway.chat import booking, repository
from services.gateway.chat.booking import Asked, Intent, Reservation, Settled, Settlement

_LOCK_MS = 100  # who waits longer for somebody's lock does so alone


class AnswerBooks:
    """Books answers, each exactly once, in groups.

    A group is one transaction: all of it is durable before anybody is told, or none of it happened.
    One that a member spoils - whose conversation somebody holds for long, whose row the database
    refuses - is undone, and each member is tried by itself: a bad one fails alone.
    """

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database
        self._reserving = Together[Asked, Reservation](
            self._reserve_all, alone=self._reserve_alone, unclaimed=self._take_back
        )
        self._settling = Together[Settled, Decimal | None](
            self._settle_all, alone=self._settle_alone
        )

    async def reserve(self, context: TenantContext, intent: Intent) -> Reservation:
        """Reserve an answer, as `booking.reserve` does.

        A caller that is cancelled meanwhile has reserved nothing in the end.

        Raises:
            PlatformError: As `booking.reserve`.
            Unavailable: The database does not answer.
        """
        return await self._reserving.do(Asked(context, intent))

    async def settle(
        self, context: TenantContext, answer_id: UUID, settlement: Settlement
    ) -> Decimal | None:
        """Settle an answer, as `booking.settle` does; also for a caller that is cancelled.

        Raises:
            Unavailable: The database does not answer; it may be settled or not. To repeat it with
                the same settlement changes nothing.
        """
        return await self._settling.do(Settled(context, answer_id, settlement))

    async def _reserve_all(self, asked: Sequence[Asked]) -> Sequence[Reservation | PlatformError]:
        try:
            async with self._database.platform() as connection:
                return await booking.reserve_all(connection, asked, lock_ms=_LOCK_MS)
        except Exception as error:
            if was_rolled_back(error):
                raise NotTogether from error
            raise

    async def _reserve_alone(self, asked: Asked) -> Reservation:
        async with self._database.platform() as connection:
            return await booking.reserve(connection, *asked)

    async def _take_back(self, asked: Asked, _: Reservation) -> None:
        try:
            async with self._database.platform() as connection:
                await repository.release(
                    connection, asked.context, asked.intent.answer_id, undo=True
                )
        except Unavailable:
            return  # the sweeper does

    async def _settle_all(self, settled: Sequence[Settled]) -> Sequence[Decimal | None]:
        try:
            async with self._database.platform() as connection:
                return await booking.settle_all(connection, settled, lock_ms=_LOCK_MS)
        except Exception as error:
            if was_rolled_back(error):
                raise NotTogether from error
            raise

    async def _settle_alone(self, settled: Settled) -> Decimal | None:
        async with self._database.platform() as connection:
            return await booking.settle(connection, *settled)
