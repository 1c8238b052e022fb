"""Redis: scripts with a deadline, kept away from a server that does not answer.

Calls that wait at the same time go as one pipeline over one connection: a request of its own for
each of them costs the process three times as much.
"""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from planes.shared.deadlines import answer_within
from planes.shared.errors import Unavailable
from planes.shared.stores.redis_clients import REDIS_ERRORS, is_cluster
from planes.shared.together import Together

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
        self._failed_at = 0.0
        self._calls = Together[_Call, Any](self._evaluate_all)

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
        call = _Call(self._scripts[name], keys, arguments, now)
        try:
            if is_cluster(self._client):  # keys of several users lie on several nodes
                answer = await self._evaluate(call)
            else:
                answer = await self._calls.do(call)
        except REDIS_ERRORS as error:
            self._failed_at = time.monotonic()
            self._paused_until = self._failed_at + _PAUSE_S
            _log.warning("redis unavailable", script=name, error=str(error))
            raise RedisUnavailable(_NO_ANSWER) from error
        self._paused_until = 0.0
        return answer if isinstance(answer, list) else [answer]

    async def _evaluate_all(self, calls: Sequence["_Call"]) -> Sequence[Any]:
        """Run several scripts; what waited for calls that failed is not tried any more."""
        if self._failed_at > calls[0].asked_at:
            raise RedisUnavailable(_NO_ANSWER)
        if len(calls) == 1:
            return [await self._evaluate(calls[0])]
        async with answer_within(_DEADLINE_S), self._client.pipeline(transaction=False) as together:
            for call in calls:
                together.evalsha(call.script.digest, len(call.keys), *call.values)
            answers = await together.execute(raise_on_error=False)
        return [
            await self._evaluate_again(call) if isinstance(answer, NoScriptError) else answer
            for call, answer in zip(calls, answers, strict=True)
        ]

    async def _evaluate_again(self, call: "_Call") -> Any:
        """Run a script that the server did not know; what goes wrong is this call's alone."""
        try:
            return await self._evaluate(call)
        except REDIS_ERRORS as error:
            return error

    async def _evaluate(self, call: "_Call") -> Any:
        """Run a script where its keys are; that server may not know it, or no more."""
        script, keys, values = call.script, call.keys, call.values
        async with answer_within(_DEADLINE_S):
            try:
                return await self._client.evalsha(script.digest, len(keys), *values)
            except NoScriptError:
                return await self._client.eval(script.text, len(keys), *values)


class _Script:
    """A script and the name that servers give it."""

    def __init__(self, text: bytes) -> None:
        self.text = text.decode()
        self.digest = hashlib.sha1(text, usedforsecurity=False).hexdigest()


class _Call(NamedTuple):
    """A script to be run; `asked_at` is by the monotonic clock."""

    script: _Script
    keys: Sequence[str]
    arguments: Sequence[str | int]
    asked_at: float

    @property
    def values(self) -> list[Any]:
        """Keys and arguments, as commands have them."""
        return [*self.keys, *self.arguments]
