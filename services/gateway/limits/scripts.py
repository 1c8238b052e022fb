"""Redis: scripts with a deadline, kept away from a server that does not answer."""

import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from planes.shared.deadlines import answer_within
from planes.shared.errors import Unavailable
from planes.shared.stores.redis_connections import cancellable

_DEADLINE_S = 1.0  # of a script, with all waits of the driver
_BACKSTOP_S = 3.0
_PAUSE_S = 1.0
_NO_ANSWER = "The session store does not answer. Try again in a moment."
_log = structlog.get_logger(__name__)


class RedisUnavailable(Unavailable):
    """Redis does not answer, or cannot write."""


def redis_client(url: str, *, max_connections: int = 64) -> Redis:
    """Return a client that connects at its first call, with a deadline on every wait.

    Args:
        url: `redis://[user]:password@host:port/database`.
        max_connections: Upper bound of its pool; more callers wait for a free one.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=_BACKSTOP_S,
        socket_timeout=_BACKSTOP_S,
        socket_connect_timeout=_BACKSTOP_S,
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    return Redis.from_pool(cancellable(pool))


class RedisScripts:
    """Runs the scripts beside this module.

    After a failure calls fail at once for a second; then one call tries again for all.
    """

    def __init__(self, client: Redis) -> None:
        """Store the client and read the scripts."""
        self._scripts: dict[str, AsyncScript] = {
            path.stem: client.register_script(path.read_text("utf-8"))
            for path in Path(__file__).parent.glob("*.lua")
        }
        self._paused_until = 0.0

    async def run(self, name: str, keys: Sequence[str], *arguments: str | int) -> list[int]:
        """Run the script `name` and return its integers.

        Raises:
            RedisUnavailable: No answer within a second, or none at the last call a moment ago.
        """
        now = time.monotonic()
        if now < self._paused_until:
            raise RedisUnavailable(_NO_ANSWER)
        if self._paused_until:
            self._paused_until = now + _PAUSE_S
        try:
            async with answer_within(_DEADLINE_S):
                answer = await self._scripts[name](keys=list(keys), args=list(arguments))
        except (RedisError, OSError) as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            _log.warning("redis unavailable", script=name, error=str(error))
            raise RedisUnavailable(_NO_ANSWER) from error
        self._paused_until = 0.0
        return answer if isinstance(answer, list) else [answer]
