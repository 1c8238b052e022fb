"""How long a builder of a generation may go on, and what it tells of it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

_LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class Built:
    """What one call of the builder did.

    `failed` holds documents that cannot be added, with the reason; `is_done` says that everything
    else was there at the end, `is_alone` that no other builder was at work.
    """

    versions: int = 0
    chunks: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    is_done: bool = False
    is_alone: bool = True
    seconds: float = 0.0


class Turn:
    """How long a builder may go on: until its time is over, or until documents wait."""

    def __init__(self, *, seconds: float, is_wanted_elsewhere: Callable[[], Awaitable[bool]]):
        """Store the rules; the time runs from now."""
        self._ends = time.monotonic() + seconds
        self._is_wanted_elsewhere = is_wanted_elsewhere
        self._looked = time.monotonic()

    async def is_over(self) -> bool:
        """Whether to stop; asks whether documents wait once a second at most."""
        now = time.monotonic()
        if now >= self._ends:
            return True
        if now - self._looked < _LOOK_EVERY_S:
            return False
        self._looked = now
        return await self._is_wanted_elsewhere()
