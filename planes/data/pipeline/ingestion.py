"""The steps of a run over its batch. Each can be repeated, and one document stops no other."""

import asyncio
from collections import Counter
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, replace
from functools import partial, wraps
from itertools import islice
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import numpy as np

from planes.data.pipeline.batch import BatchFiles, Vectors
from planes.data.pipeline.chunk import Chunker, TextChunk, embedded_text
from planes.data.pipeline.embed import embed_in_slices
from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.faults import Faults
from planes.data.pipeline.index import Indexer
from planes.data.pipeline.interlude import Interlude
from planes.data.pipeline.lease import LeaseKeeper
from planes.data.pipeline.load import load_original
from planes.data.pipeline.model import BackgroundModel
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.registry import ClaimLimits, Described, Progress, Registry
from planes.data.pipeline.remove import Removed, Remover
from planes.data.pipeline.verify import Findings, check_chunks, check_index, check_vectors
from planes.data.pipeline.work import Work, by_part
from planes.shared.analysis import detect_language
from planes.shared.domain import DocumentStatus
from planes.shared.errors import DocumentRejected
from planes.shared.index_ports import ChunkWriter
from planes.shared.ports import ObjectStore

T = TypeVar("T")
Step: TypeAlias = Coroutine[Any, Any, T]
CLAIMED, PARSED, CHUNKED, EMBEDDED, INDEXED = "claimed", "parsed", "chunked", "embedded", "indexed"
_PARSED_PERCENT, _CHUNKED_PERCENT, _EMBEDDED_PERCENT, _INDEXED_PERCENT = 15, 20, 90, 95
_PART_CHARS = 400_000
_CHUNKS_AT_ONCE = 100
_STALE_VERSIONS = 200
_DELETIONS = 50
_AT_FAULT = DocumentRejected(
    "check-failed",
    "The platform found its own result for this file to be wrong and did not publish it. The "
    "operator finds the failed check in Dagster under the document's id.",
    retryable=True,
)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps work with, made by the composition root."""

    registry: Registry
    store: ChunkWriter
    objects: ObjectStore
    keeper: LeaseKeeper
    remover: Remover
    parser: Parser
    model: BackgroundModel


@dataclass(frozen=True, slots=True)
class _Parsed:
    work: Work
    extracted: ExtractedText


def _spares(step: "Callable[[Ingestion], Awaitable[T]]") -> "Callable[[Ingestion], Step[T]]":
    """Let an outage while no document is in hand cost none of them an attempt."""

    @wraps(step)
    async def spared(ingestion: "Ingestion") -> T:
        with ingestion._faults.sparing_all():
            return await step(ingestion)

    return spared


class Ingestion:
    """One batch of documents from received to searchable.

    Every step reads what the one before left in `files`, a part of the batch after the other, and
    raises `Unavailable` or `OSError` where a piece of the platform fails; the batch is then tried
    again later. Between parts, small work of tenants that wait is taken through.
    """

    def __init__(self, tools: Tools, files: BatchFiles) -> None:
        """Store the tools and the place of the intermediates."""
        self._tools = tools
        self._files = files
        self._faults = Faults(tools.registry, tools.keeper)
        self._limits: ClaimLimits | None = None
        self._interlude = Interlude(self._take_between)
        self._detector_loaded: asyncio.Future[str] | None = None

    @property
    def documents_between(self) -> int:
        """How many documents of others were published in the midst of this batch."""
        return self._interlude.documents

    async def claim(
        self, *, seconds: float, documents: int, attempts: int, backlog_s: float | None = None
    ) -> list[Work]:
        """Claim a batch, see `ClaimLimits`; `backlog_s` is `seconds` if None.

        Begins to load what later steps need: a second and a half saved.
        """
        limits = ClaimLimits(seconds, backlog_s or seconds, documents, attempts)
        works = await self._tools.registry.claim(limits)
        await self._hold(works)
        if works:
            self._limits = limits
            self._tools.model.start(works[0].embedder)
            loop = asyncio.get_running_loop()
            self._detector_loaded = loop.run_in_executor(None, detect_language, "words")
        return works

    @_spares
    async def parse(self) -> list[Work]:
        """Extract text, pages, headings and language; the texts are stored for good."""
        done: list[Work] = []
        async for number, part in self._parsed_parts():
            keep = partial(self._keep, number, part)
            done += await self._faults.together([each.work for each in part.values()], keep)
        await self._files.put_works(PARSED, done)
        return done

    @_spares
    async def chunk(self) -> list[Work]:
        """Split the texts."""
        done: list[Work] = []
        async for part, works in self._parts(PARSED):
            split = partial(self._split, {})
            found = {w.version_id: await self._faults.one(w, split) for w in works}
            chunks = {version_id: some for version_id, some in found.items() if some is not None}
            await self._files.put_chunks(part, chunks)
            counted = [w for w in works if w.version_id in chunks]
            done += [replace(w, chunk_count=len(chunks[w.version_id])) for w in counted]
            self._note(counted, _CHUNKED_PERCENT)
            await self._interlude.play()
        await self._files.put_works(CHUNKED, done)
        return done

    @_spares
    async def embed(self) -> list[Work]:
        """Make a vector of every chunk."""
        done: list[Work] = []
        async for part, works in self._parts(CHUNKED):
            embed = partial(self._embed, await self._files.chunks(part))
            vectors = dict(await self._faults.together(works, embed))
            await self._files.put_vectors(part, vectors)
            done += [work for work in works if work.version_id in vectors]
        await self._files.put_works(EMBEDDED, done)
        return done

    @_spares
    async def index(self) -> list[Work]:
        """Write the chunks to the store, hidden."""
        done: list[Work] = []
        async for part, works in self._parts(EMBEDDED):
            chunks, vectors = await self._files.chunks(part), await self._files.vectors(part)
            index = partial(self._index, chunks, vectors)
            written = await self._faults.together(works, index)
            self._note(written, _INDEXED_PERCENT)
            done += written
            await self._interlude.play()
        await self._files.put_works(INDEXED, done)
        return done

    @_spares
    async def publish(self) -> list[Work]:
        """Make the versions searchable, then remove the chunks of those that they replace."""
        published: list[Work] = []
        async for _, works in self._parts(INDEXED):
            published += await self._faults.together(works, self._tools.registry.publish)
        await self._tools.remover.remove_stale(versions=_STALE_VERSIONS)
        return published

    async def remove(self) -> Removed:
        """Remove what deleted documents and abandoned versions left."""
        removed = await self._tools.remover.remove_stale(versions=_STALE_VERSIONS)
        return removed + await self._tools.remover.remove_deleted(documents=_DELETIONS)

    @_spares
    async def check_chunks(self) -> Findings:
        """Check offsets and that no chunk is blank; documents at fault fail."""
        return await self._failed(check_chunks(self._files, await self._files.works(CHUNKED)))

    @_spares
    async def check_vectors(self) -> Findings:
        """Check the vectors' number and length; documents at fault fail."""
        return await self._failed(check_vectors(self._files, await self._files.works(EMBEDDED)))

    @_spares
    async def check_index(self) -> Findings:
        """Check that registry and index agree; documents at fault fail."""
        works, tools = await self._files.works(INDEXED), self._tools
        return await self._failed(
            check_index(self._files, works, registry=tools.registry, store=tools.store)
        )

    async def _failed(self, check: Awaitable[Findings]) -> Findings:
        findings = await check
        tenants = {work.tenant_id for at_fault in findings.values() for work in at_fault}
        held = await self._tools.registry.renew(tenants)  # the others' chunks may be gone by right
        for name, at_fault in findings.items():
            findings[name] = [work for work in at_fault if work.version_id in held]
            for work in findings[name]:
                await self._tools.registry.fail(work, _AT_FAULT)
                self._tools.keeper.spare()
        return findings

    async def _hold(self, works: Sequence[Work]) -> None:
        self._tools.keeper.hold(works)
        await self._files.put_works(CLAIMED, works)

    async def _take_between(self) -> int:
        """Take small work of tenants that were given less through all steps; return how much."""
        limits = self._limits
        works = await self._tools.registry.claim(limits, between=True) if limits else []
        if not works:
            return 0
        files = self._files.within(f"between-{works[0].version_id}")
        inner = Ingestion(self._tools, files)
        await inner._hold(works)
        for step in (
            inner.parse,
            inner.chunk,
            inner.check_chunks,
            inner.embed,
            inner.check_vectors,
            inner.index,
            inner.check_index,
        ):
            await step()
        return len(await inner.publish())

    async def _parts(self, step: str) -> AsyncIterator[tuple[int, list[Work]]]:
        """Yield the parts that came through a step, but for what is no longer to be done."""
        for part, works in by_part(await self._files.works(step)):
            if held := [work for work in works if self._tools.keeper.holds(work)]:
                yield part, held

    async def _parsed_parts(self) -> AsyncIterator[tuple[int, dict[UUID, _Parsed]]]:
        """Yield the batch in parts that memory holds easily, numbered."""
        number, part, chars = 0, dict[UUID, _Parsed](), 0
        for work in await self._files.works(CLAIMED):
            if not self._tools.keeper.holds(work):
                continue
            parsed = await self._faults.one(work, self._parse)
            if parsed is not None:
                part[work.version_id] = parsed
                chars += len(parsed.extracted.text)
            if chars >= _PART_CHARS or (part and self._faults.is_careful):
                yield number, part
                number, part, chars = number + 1, {}, 0
            await self._interlude.play()
        if part:
            yield number, part

    async def _parse(self, work: Work) -> _Parsed:
        content = await load_original(self._tools.objects, work)
        extracted = await asyncio.to_thread(self._tools.parser.parse, content, work.media_type)
        if self._detector_loaded is not None:
            await self._detector_loaded
        return _Parsed(replace(work, language=detect_language(extracted.text)), extracted)

    async def _keep(
        self, number: int, part: Mapping[UUID, _Parsed], works: Sequence[Work]
    ) -> list[Work]:
        """Store the texts of a part, then tell the registry."""
        some = [part[work.version_id] for work in works]
        await asyncio.gather(*(self._files.put_extracted(p.work, p.extracted) for p in some))
        await self._tools.registry.describe(
            Described(p.work, len(p.extracted.pages) or None, len(p.extracted.text)) for p in some
        )
        self._note(works, _PARSED_PERCENT)
        return [replace(p.work, part=number) for p in some]

    async def _split(self, chunkers: dict[int, Chunker], work: Work) -> list[TextChunk]:
        extracted = await self._files.extracted(work)
        tokenizer = (await self._tools.model.start(work.embedder)).tokenizer
        tokens = work.chunk_tokens
        chunker = chunkers.setdefault(tokens, Chunker(tokenizer, max_tokens=tokens))
        rest, chunks = chunker.chunk(extracted), list[TextChunk]()
        while some := await asyncio.to_thread(lambda: list(islice(rest, _CHUNKS_AT_ONCE))):
            chunks += some
            await self._interlude.play()
            if not self._tools.keeper.holds(work):  # cancelled: no later step takes it up
                break
        return chunks

    async def _embed(
        self, chunks: Mapping[UUID, Sequence[TextChunk]], works: Sequence[Work]
    ) -> list[tuple[UUID, Vectors]]:
        """Embed the chunks of all works together; none where all were cancelled meanwhile."""
        # works of one claim are of one generation
        embedder = (await self._tools.model.start(works[0].embedder)).embedder
        owners = [work for work in works for _ in chunks[work.version_id]]
        texts = [embedded_text(c.heading, c.text) for w in works for c in chunks[w.version_id]]
        vectors = np.empty((len(texts), embedder.dimension), dtype=np.float32)
        left = Counter(work.version_id for work in owners)
        async for places, some in embed_in_slices(embedder, texts):
            vectors[places] = some
            touched = {owners[place].version_id: owners[place] for place in places}
            left.subtract(owners[place].version_id for place in places)
            for version_id, work in touched.items():
                share = 1 - left[version_id] / len(chunks[version_id])
                width = _EMBEDDED_PERCENT - _CHUNKED_PERCENT
                self._note([work], _CHUNKED_PERCENT + int(width * share))
            await self._interlude.play()
            if not any(map(self._tools.keeper.holds, works)):
                return []
        ends = np.cumsum([len(chunks[work.version_id]) for work in works])
        rows = np.split(vectors, ends[:-1])
        return [(work.version_id, own) for work, own in zip(works, rows, strict=True)]

    async def _index(
        self,
        chunks: Mapping[UUID, Sequence[TextChunk]],
        vectors: Mapping[UUID, Vectors],
        works: Sequence[Work],
    ) -> list[Work]:
        indexer = Indexer(self._tools.registry, self._tools.store, self._interlude.play)
        return await indexer.index(works, chunks, vectors)

    def _note(self, works: Iterable[Work], percent: int) -> None:
        for work in works:
            self._tools.keeper.note(Progress(work, DocumentStatus.EMBEDDING, percent))
