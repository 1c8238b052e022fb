"""The servers that can write an answer, and the order in which they are asked."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice

import httpx

_ATTEMPTS = 3
_AVOIDED_S = 30.0
_BACKOFF_S = 0.5


@dataclass(frozen=True, eq=False, slots=True)
class Provider:
    """One OpenAI-compatible server.

    `client` has the server's address as base (`http://host:port/v1/`) and its key, `model` is the
    name that the server knows, `extra_body` joins every request.
    """

    client: httpx.AsyncClient
    model: str
    extra_body: Mapping[str, object] = field(default_factory=dict)


class FallbackChain:
    """Providers in order of preference; one that failed is asked last for half a minute."""

    def __init__(
        self, providers: Sequence[Provider], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Store the providers, the preferred one first, and a clock of seconds."""
        self._providers = tuple(providers)
        self._clock = clock
        self._failed_at: dict[Provider, float] = {}

    @property
    def model(self) -> str:
        """The preferred provider's model: answers of the whole chain have its name and price."""
        return self._providers[0].model

    def attempts(self) -> list[Provider]:
        """Return whom to ask, in turn: each once, and three attempts at least."""
        order = sorted(self._providers, key=self._is_avoided)
        return list(islice(cycle(order), max(_ATTEMPTS, len(order))))

    def note_failure(self, provider: Provider) -> None:
        """Remember that a provider did not answer."""
        self._failed_at[provider] = self._clock()

    def note_success(self, provider: Provider) -> None:
        """Forget earlier failures of a provider."""
        self._failed_at.pop(provider, None)

    def _is_avoided(self, provider: Provider) -> bool:
        failed_at = self._failed_at.get(provider)
        return failed_at is not None and self._clock() - failed_at < _AVOIDED_S


class Turns:
    """Whose turn it is to write one answer, and until when its first token must come."""

    def __init__(self, attempts: Sequence[Provider], first_token_s: float) -> None:
        """Start the clock; call it in the event loop."""
        self._left = list(attempts)
        self._ends_at = asyncio.get_running_loop().time() + first_token_s
        self._tried: set[Provider] = set()
        self.refusal: Exception | None = None

    async def next(self) -> tuple[Provider, float] | None:
        """Return the next provider and the end of its share of the time; None at the end.

        A provider that had its turn has another after a pause.
        """
        if not self._left:
            return None
        provider = self._left.pop(0)
        if provider in self._tried:
            await asyncio.sleep(_BACKOFF_S * (0.5 + random.random()))  # noqa: S311 - no secret
        untried = len({provider, *self._left} - self._tried) or 1
        self._tried.add(provider)
        now = asyncio.get_running_loop().time()
        return (provider, now + (self._ends_at - now) / untried) if now < self._ends_at else None

    def refuse(self, provider: Provider, reason: Exception) -> None:
        """Ask a provider no more, because it would refuse again."""
        self.refusal = reason
        self._left = [other for other in self._left if other is not provider]
