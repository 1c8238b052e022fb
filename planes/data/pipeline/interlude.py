"""What small work of others a run takes through in the midst of a large batch."""

import time
from collections.abc import Awaitable, Callable

import structlog

_EVERY_S = 1.0
_log = structlog.get_logger(__name__)


class Interlude:
    """Asks for small work once a second at most; a failure ends the asking, not the batch.

    Attributes:
        documents: How many were published in between.
    """

    def __init__(self, take: Callable[[], Awaitable[int]]) -> None:
        """Store what claims and publishes such work, and returns how many documents it was."""
        self.documents = 0
        self._take = take
        self._next = time.monotonic() + _EVERY_S
        self._is_open = True

    async def play(self) -> None:
        """Take what waits, if it is time."""
        if not self._is_open or time.monotonic() < self._next:
            return
        self._is_open = False  # nothing is taken in between of what is taken in between
        try:
            self.documents += await self._take()
        except Exception as error:  # must not be laid to a document that is in hand
            _log.warning("no more work in between in this run", error=repr(error), exc_info=True)
        else:
            self._is_open = True
            self._next = time.monotonic() + _EVERY_S
