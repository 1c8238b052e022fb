"""Redis: scripts with a deadline, kept away from a server that does not answer."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from planes.shared.deadlines import answer_within
from planes.shared.errors import Unavailable
from planes.shared.stores.redis_clients import REDIS_ERRORS

_DEADLINE_S = 1.0  # of a script, with all waits of the driver
_PAUSE_S = 1.0
_NO_ANSWER = "The session store does not answer. Try again in a moment."
_log = structlog.get_logger(__name__)


class RedisUnavailable(Unavailable):
    """Redis does not answer, or cannot write."""


class RedisScripts:
    """Runs the scripts beside this module.

    After a failure calls fail at once for a second; then one call tries again for all.
    """

    def __init__(self, client: Redis) -> None:
        """Store the client and read the scripts."""
        self._client = client
        self._scripts = {
            path.stem: _Script(path.read_bytes()) for path in Path(__file__).parent.glob("*.lua")
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
                answer = await self._evaluate(self._scripts[name], keys, arguments)
        except REDIS_ERRORS as error:
            self._paused_until = time.monotonic() + _PAUSE_S
            _log.warning("redis unavailable", script=name, error=str(error))
            raise RedisUnavailable(_NO_ANSWER) from error
        self._paused_until = 0.0
        return answer if isinstance(answer, list) else [answer]

    async def _evaluate(
        self, script: "_Script", keys: Sequence[str], arguments: Sequence[str | int]
    ) -> Any:
        """Run a script where its keys are; that server may not know it, or no more."""
        values: list[Any] = [*keys, *arguments]
        try:
            return await self._client.evalsha(script.digest, len(keys), *values)
        except NoScriptError:
            return await self._client.eval(script.text, len(keys), *values)


class _Script:
    """A script and the name that servers give it."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode()
        self.digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()
