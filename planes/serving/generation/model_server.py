"""Whether the server of the language model answers."""

import asyncio
import time
from collections.abc import Callable

import httpx

from planes.shared.errors import Unavailable

_DEADLINE_S = 1.0
_REMEMBERED_S = 10.0


class ModelServerProbe:
    """Asks an OpenAI-compatible server for its models, at most once in ten seconds."""

    def __init__(
        self, client: httpx.AsyncClient, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Store the client, whose base is the server's address, and a clock of seconds."""
        self._client = client
        self._clock = clock
        self._asked_at: float | None = None
        self._is_up = False

    async def check(self) -> None:
        """Return where the server answers; any status below 500 will do, for not all list models.

        Raises:
            Unavailable: It does not within a second, or did not when it was last asked.
        """
        now = self._clock()
        if self._asked_at is None or now - self._asked_at >= _REMEMBERED_S:
            self._is_up = await self._answers()
            self._asked_at = now
        if not self._is_up:
            raise Unavailable("The language model's server does not answer.")

    async def _answers(self) -> bool:
        try:
            async with (
                asyncio.timeout(_DEADLINE_S),
                self._client.stream("GET", "models") as response,
            ):
                return response.status_code < 500
        except (httpx.TransportError, TimeoutError):
            return False
