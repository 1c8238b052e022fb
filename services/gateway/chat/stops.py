"""Gateways tell one another which answers are to stop; what is lost is seen at a checkpoint."""

from collections.abc import Callable
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from planes.shared.errors import Unavailable

_CHANNEL = "stopped-answers"
_BEAT_S = 0.5
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
        except (RedisError, OSError) as error:
            _log.warning("a stop is not told", error=str(error))

    async def listen(self, stop: Callable[[UUID], None]) -> None:
        """Stop what is asked for, until cancelled.

        Raises:
            Unavailable: The connection broke; the caller comes again.
        """
        try:
            async with self._redis.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(_CHANNEL)
                while True:
                    message = await channel.get_message(timeout=_BEAT_S)
                    if message is None:
                        await channel.ping()
                    elif message["type"] == "message" and len(message["data"]) == 16:
                        stop(UUID(bytes=message["data"]))
        except (RedisError, OSError) as error:
            raise Unavailable("Stops of answers are not heard.") from error
