"""Whether a server of the language model answers."""

import asyncio
import time
from collections.abc import Callable, Sequence

import httpx

from planes.shared.errors import Unavailable

_DEADLINE_S = 1.0
_REMEMBERED_S = 10.0


class ModelServerProbe:
    """Asks OpenAI-compatible servers for their models, at most once in ten seconds."""

    def __init__(
        self, clients: Sequence[httpx.AsyncClient], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Store the clients, whose bases are the servers' addresses, and a clock of seconds."""
        self._clients = tuple(clients)
        self._clock = clock
        self._asked_at: float | None = None
        self._is_up = False

    async def check(self) -> None:
        """Return where one of the servers answers, with any status below 500: not all list models.

        Raises:
            Unavailable: None does within a second, or did when they were last asked.
        """
        now = self._clock()
        if self._asked_at is None or now - self._asked_at >= _REMEMBERED_S:
            self._is_up = any(await asyncio.gather(*map(_answers, self._clients)))
            self._asked_at = now
        if not self._is_up:
            raise Unavailable("The language model's server does not answer.")


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        async with asyncio.timeout(_DEADLINE_S), client.stream("GET", "models") as response:
            return response.status_code < 500
    except (httpx.TransportError, TimeoutError):
        return False
