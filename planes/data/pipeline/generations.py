"""Builds a generation of the index beside the live one: from the stored texts, or as its copy.

Whatever is searchable and not yet in the generation is added, a few chunks at a time, each time
while its version is held in the registry. So a builder that was killed goes on where it was, and
one that runs again after the switch brings the generation before in step. A generation that holds
what the live one holds (`polyplane stores copy`) gets the live one's chunks and vectors, the others
chunks and vectors of their own.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import UUID

import structlog

from planes.data.pipeline.chunk import Chunker, embedded_text
from planes.data.pipeline.copies import VersionCopier
from planes.data.pipeline.index import domain_chunks
from planes.data.pipeline.model import BackgroundModel, EmbeddingModel
from planes.data.pipeline.stored_text import StoredTexts
from planes.data.pipeline.turn import Built, Turn
from planes.data.pipeline.work import Work
from planes.shared.domain import Chunk
from planes.shared.errors import DocumentRejected, Unavailable
from planes.shared.index_ports import ChunkWriter
from planes.shared.indexing import fingerprint, term_counts
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_generations import Generation, PostgresGenerations
from planes.shared.stores.searchable_versions import (
    SearchableVersion,
    incomplete,
    searchable_versions,
)

_SLICE = 32  # chunks between two looks at the clock
_NAMED_FAILURES = 20
_HELD_S = 3.0  # a request that deletes a document waits for 4
_STILL_LIVE = """
SELECT true FROM document_versions
WHERE id = $1 AND visibility = 'live' AND published_at = $2 FOR SHARE
"""
_COMPLETE = "SELECT complete_version($1, $2, $3, $4, $5, $6, $7)"
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A searchable version that a generation lacks, as it was when it was looked up."""

    work: Work
    at: datetime


@dataclass(frozen=True, slots=True)
class BuildTools:
    """What a builder works with, made by the composition root."""

    database: Database
    generations: PostgresGenerations
    store: ChunkWriter
    texts: StoredTexts
    model: BackgroundModel


class GenerationBuilder:
    """Adds to one generation what it lacks; at most one builder a generation is at work.

    Raises `Unavailable` or `OSError` where a part of the platform fails: run it again.
    """

    def __init__(self, tools: BuildTools, target: Generation, *, live: Generation) -> None:
        """Store the tools, the generation that is built, and the live one."""
        self._tools = tools
        self._target = target
        self._live = live.number
        self._copier: VersionCopier | None = None
        if target.holds_what(live) and target.number != live.number:
            self._copier = VersionCopier(
                tools.database, tools.store, source=live.number, target=target.number
            )

    async def build(self, turn: Turn) -> Built:
        """Add missing versions until none is left or the turn is over; tells what it did."""
        started, built = time.monotonic(), Built()
        async with self._tools.database.platform() as connection, connection.transaction():
            lock = "SELECT pg_try_advisory_xact_lock(builder_lock($1))"  # a pooler has no sessions
            built.is_alone = bool(await connection.fetchval(lock, self._target.number))
            if built.is_alone:
                add = self._add_missing if self._copier is None else self._copier.copy
                await add(turn, built)
        built.seconds = round(time.monotonic() - started, 3)
        if built.is_alone:
            await self._note(built)
        return built

    async def _add_missing(self, turn: Turn, built: Built) -> None:
        rejected: set[UUID] = set()
        for exact in (False, True):  # what nobody added, then what does not count as it should
            async for published in self._missing(exact=exact):
                if published.work.version_id in rejected:
                    continue
                try:
                    added = await self._add(published, turn, built)
                except DocumentRejected as reason:
                    built.failed.append(_failure(published, reason))
                    rejected.add(published.work.version_id)
                    continue
                if not added or await turn.is_over():
                    return
        built.is_done = True

    async def _missing(self, *, exact: bool) -> AsyncIterator[Published]:
        """Yield what was not counted; where `exact`, also what has another number of chunks."""
        number, store = self._target.number, self._tools.store
        async for page in searchable_versions(self._tools.database, number):
            if exact:
                missing = await incomplete(page, store, generation=number)
            else:
                missing = [version for version in page if version.chunks is None]
            for version in missing:
                yield Published(_work(version, number), version.published_at)

    async def _add(self, published: Published, turn: Turn, built: Built) -> bool:
        """Add a version; False where the turn ended before it was whole."""
        work, model = published.work, await self._tools.model.start(self._target.recipe.embedder)
        chunks = await self._chunks(work, model)
        missing = await self._remove_others(work, chunks)
        for first in range(0, len(missing), _SLICE):
            if first and await turn.is_over():
                return False
            some = missing[first : first + _SLICE]
            texts = [embedded_text(chunk.heading, chunk.text) for chunk in some]
            vectors = await asyncio.to_thread(model.embedder.embed, texts)
            async with self._held(published) as is_published:
                if not is_published:
                    return True  # replaced or deleted meanwhile
                await self._tools.store.add_chunks(some, vectors, generation=work.generation)
            built.chunks += len(some)
        built.versions += await self._complete(published, chunks)
        return True

    @asynccontextmanager
    async def _held(self, published: Published) -> AsyncIterator[bool]:
        """Hold a version's row, so that nobody replaces or deletes it while chunks are written.

        It yields whether the version is still the published one that was looked up. It raises
        `Unavailable` before those give up who wait for the row.
        """
        work = published.work
        try:
            async with (
                asyncio.timeout(_HELD_S),
                self._tools.database.tenant(work.tenant_id) as connection,
            ):
                yield bool(await connection.fetchval(_STILL_LIVE, work.version_id, published.at))
        except TimeoutError as error:
            raise Unavailable("The index takes too long to write. Try again later.") from error

    async def _chunks(self, work: Work, model: EmbeddingModel) -> list[Chunk]:
        extracted = await self._tools.texts.read(work, live=self._live)
        chunker = Chunker(model.tokenizer, max_tokens=self._target.recipe.max_tokens)
        spans = await asyncio.to_thread(lambda: list(chunker.chunk(extracted)))
        return domain_chunks(work, spans)

    async def _remove_others(self, work: Work, chunks: Sequence[Chunk]) -> list[Chunk]:
        """Remove what does not belong to the version, and return what it lacks."""
        present = await self._tools.store.fingerprints(
            work.tenant_id, work.version_id, generation=work.generation
        )
        right = {chunk.id for chunk in chunks if present.get(chunk.id) == fingerprint(chunk)}
        if others := present.keys() - right:
            await self._tools.store.remove_chunks(
                work.tenant_id, list(others), generation=work.generation
            )
        return [chunk for chunk in chunks if chunk.id not in right]

    async def _complete(self, published: Published, chunks: Sequence[Chunk]) -> bool:
        work = published.work
        counts = term_counts(chunks).get(work.version_id, Counter())
        terms = sorted(counts)
        shown = await self._tools.store.count_versions(
            work.tenant_id, [work.version_id], generation=work.generation
        )
        if shown.get(work.version_id, 0) != len(chunks):
            async with self._held(published) as is_published:
                if not is_published:
                    return False  # replaced or deleted meanwhile, with its chunks
            raise Unavailable("The index does not show the chunks of a document. Try again later.")
        async with self._tools.database.tenant(work.tenant_id) as connection:
            completed = await connection.fetchval(
                _COMPLETE,
                work.version_id,
                published.at,
                work.generation,
                work.language,
                terms,
                [counts[term] for term in terms],
                len(chunks),
            )
        return bool(completed)

    async def _note(self, built: Built) -> None:
        notes = asdict(built) | {
            "failed": built.failed[:_NAMED_FAILURES],
            "failures": len(built.failed),
            "ended_at": datetime.now(UTC).isoformat(),
        }
        await self._tools.generations.note_build(self._target.number, notes, is_done=built.is_done)


def _work(version: SearchableVersion, generation: int) -> Work:
    return Work(
        version_id=version.id,
        tenant_id=version.tenant_id,
        document_id=version.document_id,
        media_type=version.media_type,
        size_bytes=version.size_bytes,
        sha256=version.sha256.hex(),
        generation=generation,
        language=version.language or "",
    )


def _failure(published: Published, reason: DocumentRejected) -> dict[str, str]:
    work = published.work
    _log.error("document not re-embedded", document_id=str(work.document_id), code=reason.code)
    return {
        "tenant_id": str(work.tenant_id),
        "document_id": str(work.document_id),
        "reason": reason.detail,
    }
