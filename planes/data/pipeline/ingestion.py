"""The steps of a run over its batch. Each can be repeated, and one document stops no other."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog

from planes.data.pipeline.batch import BatchFiles
from planes.data.pipeline.chunk import Chunker
from planes.data.pipeline.embed import embed_chunks
from planes.data.pipeline.index import domain_chunks, index_version
from planes.data.pipeline.lease import LeaseKeeper
from planes.data.pipeline.load import claim_batch, load_original
from planes.data.pipeline.model import BackgroundModel
from planes.data.pipeline.parse import Parser
from planes.data.pipeline.registry import Progress, Registry
from planes.data.pipeline.remove import Removed, Remover
from planes.data.pipeline.verify import Findings, check_chunks, check_index, check_vectors
from planes.data.pipeline.work import Work
from planes.shared.analysis import detect_language
from planes.shared.domain import DocumentStatus
from planes.shared.errors import DocumentRejected, Unavailable
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres_chunks import PostgresChunks

CLAIMED, PARSED, CHUNKED, EMBEDDED, INDEXED = "claimed", "parsed", "chunked", "embedded", "indexed"
_PARSED_PERCENT, _CHUNKED_PERCENT, _EMBEDDED_PERCENT, _INDEXED_PERCENT = 15, 20, 90, 95
_STALE_VERSIONS = 200
_DELETIONS = 50
_INTERNAL = DocumentRejected(
    "internal",
    "The platform failed on this file. The operator finds the reason in the log under the "
    "document's id; upload the file again once it is mended.",
    retryable=True,
)
_AT_FAULT = DocumentRejected(
    "check-failed",
    "The platform found its own result for this file to be wrong and did not publish it. The "
    "operator finds the failed check in Dagster under the document's id.",
    retryable=True,
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps work with, made by the composition root."""

    registry: Registry
    store: PostgresChunks
    objects: FolderObjects
    keeper: LeaseKeeper
    remover: Remover
    parser: Parser
    model: BackgroundModel


class Ingestion:
    """One batch of documents from received to searchable.

    Every step reads what the one before left in `files`, and raises `Unavailable` or `OSError`
    where a part of the platform fails; the batch is then tried again later.
    """

    def __init__(self, tools: Tools, files: BatchFiles) -> None:
        """Store the tools and the place of the intermediates."""
        self._tools = tools
        self._files = files
        self._detector_loaded: asyncio.Future[str] | None = None

    async def claim(self, *, seconds: float, documents: int, attempts: int) -> list[Work]:
        """Claim a batch, see `claim_batch`."""
        works = await claim_batch(
            self._tools.registry, seconds=seconds, documents=documents, attempts=attempts
        )
        self._tools.keeper.hold(works)
        await self._files.put_works(CLAIMED, works)
        if works:
            self._warm_up()
        return works

    async def parse(self) -> list[Work]:
        """Extract text, pages, headings and language; the texts are stored for good."""
        return await self._each(CLAIMED, PARSED, self._parse)

    async def chunk(self) -> list[Work]:
        """Split the texts."""
        return await self._each(PARSED, CHUNKED, self._chunk)

    async def embed(self) -> list[Work]:
        """Make a vector of every chunk."""
        return await self._each(CHUNKED, EMBEDDED, self._embed)

    async def index(self) -> list[Work]:
        """Write the chunks to the store, hidden."""
        return await self._each(EMBEDDED, INDEXED, self._index)

    async def publish(self) -> list[Work]:
        """Make the versions searchable, then remove the chunks of those that they replace."""
        published = []
        for work in await self._files.works(INDEXED):
            with self._sparing_others(work):
                if await self._tools.registry.publish(work):
                    published.append(work)
        await self._tools.remover.remove_stale(versions=_STALE_VERSIONS)
        return published

    async def remove(self) -> Removed:
        """Remove what deleted documents and abandoned versions left."""
        removed = await self._tools.remover.remove_stale(versions=_STALE_VERSIONS)
        return removed + await self._tools.remover.remove_deleted(documents=_DELETIONS)

    async def check_chunks(self) -> Findings:
        """Check offsets and that no chunk is blank; documents at fault fail."""
        return await self._failed(check_chunks(self._files, await self._files.works(CHUNKED)))

    async def check_vectors(self) -> Findings:
        """Check the vectors' number and length; documents at fault fail."""
        return await self._failed(check_vectors(self._files, await self._files.works(EMBEDDED)))

    async def check_index(self) -> Findings:
        """Check that registry and index agree; documents at fault fail."""
        works, tools = await self._files.works(INDEXED), self._tools
        return await self._failed(
            check_index(self._files, works, registry=tools.registry, store=tools.store)
        )

    async def _failed(self, check: Awaitable[Findings]) -> Findings:
        findings = await check
        for at_fault in findings.values():
            for work in at_fault:
                await self._tools.registry.fail(work, _AT_FAULT)
                self._tools.keeper.spare()
        return findings

    @contextmanager
    def _sparing_others(self, work: Work) -> Iterator[None]:
        """Where the platform fails at one document, let the attempt not count for the others.

        It counts for this one, which may be the reason.
        """
        self._tools.keeper.count()
        try:
            yield
        except (Unavailable, OSError):
            self._tools.keeper.spare(suspect=work.version_id)
            raise

    def _warm_up(self) -> None:
        """Load what later steps need, beside the parser's process: a second and a half saved."""
        self._tools.model.start()
        loop = asyncio.get_running_loop()
        self._detector_loaded = loop.run_in_executor(None, detect_language, "words")

    async def _each(
        self, source: str, target: str, step: Callable[[Work], Awaitable[Work | None]]
    ) -> list[Work]:
        """Take each document a step further; those that cannot go on end with their reason."""
        done: list[Work] = []
        for work in await self._files.works(source):
            try:
                with self._sparing_others(work):
                    result = await step(work)
            except DocumentRejected as reason:
                await self._tools.registry.fail(work, reason)
            except (Unavailable, OSError):
                raise
            except Exception:  # one document must not stop the others
                _log.exception("document failed", document_id=str(work.document_id), step=target)
                await self._tools.registry.fail(work, _INTERNAL)
            else:
                done += [result] if result else []
        await self._files.put_works(target, done)
        return done

    async def _parse(self, work: Work) -> Work:
        content = await load_original(self._tools.objects, work)
        extracted = await asyncio.to_thread(self._tools.parser.parse, content, work.media_type)
        if self._detector_loaded is not None:
            await self._detector_loaded
        work = replace(work, language=detect_language(extracted.text))
        await self._files.put_extracted(work, extracted)
        await self._tools.registry.describe(
            work, page_count=len(extracted.pages) or None, text_chars=len(extracted.text)
        )
        self._note(work, _PARSED_PERCENT)
        return work

    async def _chunk(self, work: Work) -> Work:
        extracted = await self._files.extracted(work)
        chunker = Chunker((await self._tools.model.start()).tokenizer)
        chunks = await asyncio.to_thread(lambda: list(chunker.chunk(extracted)))
        await self._files.put_chunks(work, chunks)
        self._note(work, _CHUNKED_PERCENT)
        return replace(work, chunk_count=len(chunks))

    async def _embed(self, work: Work) -> Work:
        width = _EMBEDDED_PERCENT - _CHUNKED_PERCENT

        def note(share: float) -> None:
            self._note(work, _CHUNKED_PERCENT + int(width * share))

        embedder = (await self._tools.model.start()).embedder
        vectors = await embed_chunks(embedder, await self._files.chunks(work), on_share=note)
        await self._files.put_vectors(work, vectors)
        return work

    async def _index(self, work: Work) -> Work | None:
        chunks = domain_chunks(work, await self._files.chunks(work))
        vectors = await self._files.vectors(work)
        written = await index_version(
            work, chunks, vectors, registry=self._tools.registry, store=self._tools.store
        )
        self._note(work, _INDEXED_PERCENT)
        return work if written else None

    def _note(self, work: Work, percent: int) -> None:
        self._tools.keeper.note(Progress(work, DocumentStatus.EMBEDDING, percent))
