"""Keeps what is deleted from being removed while somebody copies it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from planes.shared.domain import new_id
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database

_LAPSES_S = 120
_RENEWED_S = 30
_BEGIN = "INSERT INTO removal_holds (id, until) VALUES ($1, now() + make_interval(secs => $2))"
_FORGET_LAPSED = "DELETE FROM removal_holds WHERE until < now()"
_RENEW = """
UPDATE removal_holds SET until = now() + make_interval(secs => $2)
WHERE id = $1 AND until > now() RETURNING true
"""
_END = "DELETE FROM removal_holds WHERE id = $1 AND until > now() RETURNING true"
_LAPSED = "The database was away for so long that what is being copied may have been removed."


@asynccontextmanager
async def removal_hold(database: Database) -> AsyncIterator[None]:
    """Hold all removal during the block; should this process die, it goes on after two minutes.

    What was deleted before the block may still be under removal; a transaction that begins in the
    block sees it as deleted.

    Args:
        database: As the owner of its schema.

    Raises:
        Unavailable: The hold lapsed meanwhile, so what was copied may not be whole; or the database
            does not answer.
    """
    hold = new_id()
    async with database.platform() as connection:
        await connection.execute(_FORGET_LAPSED)
        await connection.execute(_BEGIN, hold, _LAPSES_S)
    renewal = asyncio.create_task(_renew(database, hold))
    try:
        yield
    finally:
        renewal.cancel()
        with suppress(asyncio.CancelledError):
            await renewal
        async with database.platform() as connection:
            held = await connection.fetchval(_END, hold)
    if not held:
        raise Unavailable(_LAPSED)


async def _renew(database: Database, hold: object) -> None:
    while True:
        await asyncio.sleep(_RENEWED_S)
        with suppress(Unavailable):  # the next may arrive in time, and else the end tells
            async with database.platform() as connection:
                await connection.fetchval(_RENEW, hold, _LAPSES_S)
