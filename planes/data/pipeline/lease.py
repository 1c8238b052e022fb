"""Keeps a run's leases alive and its progress visible, beside the work."""

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog

from planes.data.pipeline.registry import Progress, Registry
from planes.data.pipeline.work import Work
from planes.shared.errors import Unavailable

_WRITE_EVERY_S = 1.0
_RENEW_EVERY_S = 15.0
_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """While entered, renews leases every 15 s and writes noted progress at most once a second."""

    def __init__(self, registry: Registry) -> None:
        """Store the registry; nothing is held yet."""
        self._registry = registry
        self._tenants: tuple[UUID, ...] = ()
        self._held: set[UUID] = set()
        self._notes: dict[UUID, Progress] = {}
        self._spared = False
        self._suspect: UUID | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def tenants(self) -> tuple[UUID, ...]:
        """Whose documents this run has claimed."""
        return self._tenants

    def hold(self, works: Sequence[Work]) -> None:
        """Name what was claimed too."""
        tenants = (work.tenant_id for work in works)
        self._tenants = tuple(dict.fromkeys((*self._tenants, *tenants)))
        self._held.update(work.version_id for work in works)

    def holds(self, work: Work) -> bool:
        """Whether the last renewal found a version to be this run's.

        One that was cancelled, deleted or ended is not, nor one whose lease ran out.
        """
        return work.version_id in self._held

    def note(self, progress: Progress) -> None:
        """Remember how far a version is; its latest note is the one that is written."""
        self._notes[progress.work.version_id] = progress

    def spare(self, *, suspect: UUID | None = None) -> None:
        """Let the attempt that ends now count for no version but the one that was in hand."""
        self._spared, self._suspect = True, suspect

    @property
    def is_spared(self) -> bool:
        """Whether the attempt that ends now counts for one version at most."""
        return self._spared

    def count(self) -> None:
        """Let the attempt count for every version again, as at the start."""
        self._spared, self._suspect = False, None

    async def __aenter__(self) -> Self:
        """Start."""
        self._task = asyncio.create_task(self._keep())
        self._task.add_done_callback(_log_failure)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, then give back what the run did not finish; raise what ended the keeping, if so."""
        del kind, error, traceback
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        await self._release()
        if not self._task.cancelled():
            await self._task

    async def _release(self) -> None:
        try:
            released = await self._registry.release(
                self._tenants, spared=self._spared, suspect=self._suspect
            )
        except Unavailable:
            _log.warning("leases not released", tenants=len(self._tenants))
        else:
            if released:
                _log.warning("documents given back to be tried again", documents=released)

    async def _keep(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            try:
                written = dict(self._notes)
                await self._registry.report(written.values())
                self._notes = {
                    version_id: note
                    for version_id, note in self._notes.items()
                    if written.get(version_id) is not note
                }
                if time.monotonic() - renewed >= _RENEW_EVERY_S:
                    claimed = set(self._held)  # what is claimed meanwhile was not looked at
                    self._held -= claimed - await self._registry.renew(self._tenants)
                    renewed = time.monotonic()
            except Unavailable:
                _log.warning("progress and leases not written; trying again")


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("leases are no longer renewed", exc_info=error)
