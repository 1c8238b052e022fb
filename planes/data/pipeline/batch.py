"""A run's documents between its steps: JSON Lines and arrays under `batches/{run}/`.

They are removed when the run ends. Every file belongs to one step and, but for the lists of works,
to one document, so that no step holds more than one document.
"""

import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from planes.data.pipeline import work as works_format
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.extracted import ExtractedText, HeadingSpan, PageSpan
from planes.data.pipeline.work import Work
from planes.shared.domain import text_key
from planes.shared.stores.objects import FolderObjects

Vectors = NDArray[np.float32]


class BatchFiles:
    """The intermediates of one run; writing again replaces."""

    def __init__(self, objects: FolderObjects, run_id: str) -> None:
        """Store where they lie."""
        self._objects = objects
        self._prefix = f"batches/{run_id}/"

    async def put_works(self, step: str, works: Iterable[Work]) -> None:
        """Keep the documents that came through a step."""
        await self._objects.put(f"{self._prefix}{step}.jsonl", works_format.encode(works))

    async def works(self, step: str) -> list[Work]:
        """Return the documents that came through a step.

        Raises:
            FileNotFoundError: The step did not run in this run.
        """
        try:
            lines = await self._objects.get(f"{self._prefix}{step}.jsonl")
        except FileNotFoundError as error:
            message = f"No documents were {step} in this run: start the whole job `ingestion`."
            raise FileNotFoundError(message) from error
        return works_format.decode(lines)

    async def put_extracted(self, work: Work, extracted: ExtractedText) -> None:
        """Keep a document's text, for good, and its spans, for this run."""
        await self._objects.put(_text_key(work), extracted.text.encode())
        spans = {
            "pages": [asdict(span) for span in extracted.pages],
            "headings": [asdict(span) for span in extracted.headings],
        }
        await self._objects.put(self._key(work.version_id, "spans.json"), orjson.dumps(spans))

    async def text(self, work: Work) -> str:
        """Return a document's text."""
        return (await self._objects.get(_text_key(work))).decode()

    async def extracted(self, work: Work) -> ExtractedText:
        """Return a document's text and spans."""
        spans = orjson.loads(await self._objects.get(self._key(work.version_id, "spans.json")))
        return ExtractedText(
            await self.text(work),
            tuple(PageSpan(**span) for span in spans["pages"]),
            tuple(HeadingSpan(**span) for span in spans["headings"]),
        )

    async def put_chunks(self, work: Work, chunks: Sequence[TextChunk]) -> None:
        """Keep a document's chunks."""
        lines = b"".join(orjson.dumps(c, option=orjson.OPT_APPEND_NEWLINE) for c in chunks)
        await self._objects.put(self._key(work.version_id, "chunks.jsonl"), lines)

    async def chunks(self, work: Work) -> list[TextChunk]:
        """Return a document's chunks, in order."""
        lines = await self._objects.get(self._key(work.version_id, "chunks.jsonl"))
        return [TextChunk(**orjson.loads(line)) for line in lines.splitlines()]

    async def put_vectors(self, work: Work, vectors: Vectors) -> None:
        """Keep the vectors of a document's chunks, shape (chunks, dimension)."""
        array = io.BytesIO()
        np.save(array, vectors, allow_pickle=False)
        await self._objects.put(self._key(work.version_id, "vectors.npy"), array.getvalue())

    async def vectors(self, work: Work) -> Vectors:
        """Return the vectors of a document's chunks, in order."""
        content = await self._objects.get(self._key(work.version_id, "vectors.npy"))
        vectors: Vectors = np.load(io.BytesIO(content), allow_pickle=False)
        return vectors

    async def remove(self) -> int:
        """Remove everything of this run but the texts, and return how many files there were."""
        return await self._objects.remove_prefix(self._prefix)

    def _key(self, version_id: UUID, name: str) -> str:
        return f"{self._prefix}{version_id}.{name}"


def _text_key(work: Work) -> str:
    return text_key(work.tenant_id, work.document_id, work.version_id)
