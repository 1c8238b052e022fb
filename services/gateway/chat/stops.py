"""Gateways tell one another which answers are to stop; what is lost is seen at a checkpoint."""

from collections.abc import Callable
from uuid import UUID

import structlog
from redis.asyncio import Redis

from planes.shared.errors import Unavailable
from planes.shared.stores.redis_clients import REDIS_ERRORS, heard, subscribed

_CHANNEL = "stopped-answers"
_log = structlog.get_logger(__name__)


class StopChannel:
    """A channel of Redis, heard on a connection of its own."""

    def __init__(self, redis: Redis) -> None:
        """Store the client."""
        self._redis = redis

    async def tell(self, answer_id: UUID) -> None:
        """Ask every gateway to stop an answer; without Redis they see it in the database."""
        try:
            await self._redis.publish(_CHANNEL, answer_id.bytes)
        except REDIS_ERRORS as error:
            _log.warning("a stop is not told", error=str(error))

    async def listen(self, stop: Callable[[UUID], None]) -> None:
        """Stop what is asked for, until cancelled.

        Raises:
            Unavailable: The connection broke; the caller comes again.
        """
        try:
            async with subscribed(self._redis, _CHANNEL) as channel:
                async for message in heard(channel):
                    if message["type"] == "message" and len(message["data"]) == 16:
                        stop(UUID(bytes=message["data"]))
        except REDIS_ERRORS as error:
            raise Unavailable("Stops of answers are not heard.") from error
