"""Watching: what is new or changed in a source becomes a document or a document's next version.

A scan lists a source, compares the listing with what was made of it, and takes over the difference.
It can be stopped anywhere: the next one finds what is left.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from planes.data.pipeline.source_copies import SourceCopies
from planes.data.pipeline.source_places import FileChanged, FileUnreadable, Found, Place
from planes.data.pipeline.source_registry import KnownFile, SourceRegistry, WatchedSource
from planes.shared.errors import (
    ContentTooLarge,
    InvalidInput,
    PlatformError,
    Unavailable,
    UnsupportedMediaType,
)

_DUPLICATE = "Another document of the tenant has the same content."
_QUOTA = "The plan's quota of documents or storage is used up."
_OWNER = "The owner of the documents is no longer a member who may upload."
_SKIPPED_FOR = {  # by outcome: why, and when it is tried again
    "duplicate": (_DUPLICATE, timedelta(days=1)),
    "documents": (_QUOTA, timedelta(hours=1)),
    "storage_bytes": (_QUOTA, timedelta(hours=1)),
}
_UNREADABLE_FOR = timedelta(minutes=10)
_COPY_S = 300.0  # below the lifetime of an intent
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Difference:
    """How a listing differs from what was made of a source; keys in their order.

    Attributes:
        wanted: Files that are new, changed, or to be tried again.
        vanished: Keys that were there at the last scan.
        returned: Keys that were missing and are there again.
        gone: Keys that have been missing long enough for their documents to be deleted.
    """

    wanted: list[Found]
    vanished: list[str]
    returned: list[str]
    gone: list[str]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.wanted or self.vanished or self.returned or self.gone)


@dataclass(frozen=True, slots=True)
class Scanned:
    """What a scan did: files by what became of them, and why it could not look, if so."""

    source_id: UUID
    tenant_id: UUID
    counts: Mapping[str, int]
    error: str | None = None


def difference(listed: Mapping[str, Found], known: Mapping[str, KnownFile]) -> Difference:
    """Compare a listing with what was made of the source; files still written are left alone."""
    wanted = [
        found
        for key, found in sorted(listed.items())
        if found.is_settled
        and ((old := known.get(key)) is None or old.mark != found.mark or old.is_due)
    ]
    absent = sorted(known.keys() - listed.keys())
    return Difference(
        wanted=wanted,
        vanished=[key for key in absent if not known[key].is_missing],
        returned=sorted(key for key in known.keys() & listed.keys() if known[key].is_missing),
        gone=[key for key in absent if known[key].is_gone],
    )


class Scanner:
    """Scans the sources of all tenants; what fails in one is noted there and stops no other."""

    def __init__(
        self,
        registry: SourceRegistry,
        copies: SourceCopies,
        open_place: Callable[[WatchedSource], Place],
    ) -> None:
        """Store the parts; `open_place` raises `InvalidInput` where a location cannot be used."""
        self._registry = registry
        self._copies = copies
        self._open_place = open_place

    async def has_work(self, *, seconds: float) -> bool:
        """Whether a scan would find anything to do, or this look ended before all was seen."""
        ends, has_work = time.monotonic() + seconds, False
        for source in await self._registry.watched():
            if time.monotonic() >= ends:
                return True
            try:
                _, _, found = await self._look(source)
            except PlatformError as error:
                await self._note(source, None, error.detail)
                continue
            await self._note(source, None, None)
            has_work = has_work or bool(found)
        return has_work

    async def scan(self, *, seconds: float) -> list[Scanned]:
        """Take over what is new, for at most `seconds`, shared between the sources."""
        ends, scanned = time.monotonic() + seconds, []
        sources = await self._registry.watched()
        for number, source in enumerate(sources):
            share_s = (ends - time.monotonic()) / (len(sources) - number)
            counts: Counter[str] = Counter()
            error = None
            try:
                await self._scan(source, counts, time.monotonic() + share_s)
            except PlatformError as failure:
                error = failure.detail
            await self._note(source, counts, error)
            scanned.append(Scanned(source.id, source.tenant_id, dict(counts), error))
        return scanned

    async def _scan(self, source: WatchedSource, counts: Counter[str], ends: float) -> None:
        place, known, found = await self._look(source)
        await self._registry.mark_missing(source, found.vanished, missing=True)
        await self._registry.mark_missing(source, found.returned, missing=False)
        counts["missing"] += len(found.vanished)
        for done, file in enumerate(found.wanted):
            if time.monotonic() >= ends:
                counts["left for the next scan"] += len(found.wanted) - done
                return
            counts[await self._take(source, place, file, known.get(file.key))] += 1
        if source.deletes_missing:
            counts["deleted"] += await self._delete(source, found.gone)

    async def _look(self, source: WatchedSource) -> tuple[Place, dict[str, KnownFile], Difference]:
        if not source.has_owner:
            raise InvalidInput(_OWNER)
        place = self._open_place(source)
        listed, known = await place.list(), await self._registry.known(source)
        found = difference(listed, known)
        if source.deletes_missing and not listed and found.vanished:
            raise Unavailable(
                f"The place is empty, where {len(found.vanished)} files were: perhaps it is not "
                "mounted. Nothing is deleted until there is a file."
            )
        if not source.deletes_missing:
            found.gone.clear()
        return place, known, found

    async def _take(
        self, source: WatchedSource, place: Place, file: Found, known: KnownFile | None
    ) -> str:
        """Make a file a document or version, or note why not; returns what became of it."""
        try:
            document_id = known.document_id if known else None
            async with (
                asyncio.timeout(_COPY_S),
                aclosing(place.read(file)) as blocks,
                self._copies.copy(source, file.key, blocks, document_id) as copy,
            ):
                outcome = await self._registry.register(source, file.key, file.mark, copy)
        except FileChanged:
            return "still written"
        except (ContentTooLarge, InvalidInput, UnsupportedMediaType) as refusal:
            await self._registry.skip(source, file.key, file.mark, refusal.detail, None)
            return "skipped"
        except (FileUnreadable, TimeoutError) as error:
            why = f"The file cannot be read: {str(error) or 'it takes too long'}."
            await self._registry.skip(source, file.key, file.mark, why, _UNREADABLE_FOR)
            return "skipped"
        return await self._settle(source, file, outcome)

    async def _settle(self, source: WatchedSource, file: Found, outcome: str) -> str:
        if outcome == "gone":
            raise Unavailable("The source, its owner's membership or its tenant has ended.")
        if outcome == "late":
            return "still written"
        if outcome in _SKIPPED_FOR:
            await self._registry.skip(source, file.key, file.mark, *_SKIPPED_FOR[outcome])
            return "skipped"
        return outcome

    async def _delete(self, source: WatchedSource, keys: Iterable[str]) -> int:
        deleted = 0
        for key in keys:
            deleted += await self._registry.tombstone(source, key)
        return deleted

    async def _note(
        self, source: WatchedSource, counts: Mapping[str, int] | None, error: str | None
    ) -> None:
        if error is not None:
            _log.warning("source not scanned", source_id=str(source.id), reason=error)
        await self._registry.note_scan(source, counts, error)
