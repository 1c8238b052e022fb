"""One document stops no other: whose fault a failure is, and what follows from it."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

import structlog

from planes.data.pipeline.lease import LeaseKeeper
from planes.data.pipeline.registry import Registry
from planes.data.pipeline.work import Work
from planes.shared.errors import DocumentRejected, Unavailable

T = TypeVar("T")
_INTERNAL = DocumentRejected(
    "internal",
    "The platform failed on this file. The operator finds the reason in the log under the "
    "document's id; upload the file again once it is mended.",
    retryable=True,
)
_log = structlog.get_logger(__name__)


class Faults:
    """Runs steps so that a document at fault ends with its reason, and an outage with a retry.

    Documents are taken together until a part of the platform fails; from then on one by one, so
    that it is known which one was in hand: an attempt counts for it alone.
    """

    def __init__(self, registry: Registry, keeper: LeaseKeeper) -> None:
        """Store who is told."""
        self._registry = registry
        self._keeper = keeper
        self._is_careful = False

    @property
    def is_careful(self) -> bool:
        """Whether documents are taken one by one."""
        return self._is_careful

    async def one(self, work: Work, act: Callable[[Work], Awaitable[T]]) -> T | None:
        """Do something to a document; None where it was at fault.

        Raises:
            Unavailable: A part of the platform fails.
            OSError: Likewise.
        """
        try:
            with self.sparing_others(work.version_id):
                return await act(work)
        except DocumentRejected as reason:
            await self._registry.fail(work, reason)
        except (Unavailable, OSError):
            raise
        except Exception:  # one document must not stop the others
            name = getattr(getattr(act, "func", act), "__name__", "")
            _log.exception("document failed", document_id=str(work.document_id), step=name)
            await self._registry.fail(work, _INTERNAL)
        return None

    async def together(
        self, works: Sequence[Work], act: Callable[[Sequence[Work]], Awaitable[list[T]]]
    ) -> list[T]:
        """Do something to documents at once, or one by one where that fails for one of them.

        Raises:
            Unavailable: A part of the platform fails.
            OSError: Likewise.
        """
        if len(works) > 1 and not self._is_careful:
            try:
                with self.sparing_others(None):
                    return await act(works)
            except (Unavailable, OSError):
                raise
            except Exception as error:  # one of them is at fault
                _log.warning("taking documents one by one", documents=len(works), error=repr(error))

        async def alone(work: Work) -> list[T]:
            return await act([work])

        results = [await self.one(work, alone) for work in works]
        return [each for result in results for each in result or ()]

    @contextmanager
    def sparing_all(self) -> Iterator[None]:
        """Where the platform fails while no document is in hand, let the attempt count for none."""
        self._keeper.count()
        try:
            yield
        except (Unavailable, OSError):
            if not self._keeper.is_spared:
                self._keeper.spare()
            raise

    @contextmanager
    def sparing_others(self, suspect: UUID | None) -> Iterator[None]:
        """Where the platform fails at a document, let the attempt not count for the others.

        It counts for this one, which may be the reason.
        """
        self._keeper.count()
        try:
            yield
        except (Unavailable, OSError):
            self._is_careful = True
            self._keeper.spare(suspect=suspect)
            raise
