"""A run's documents between its steps: JSON Lines and arrays under `batches/{run}/`.

They are removed when the run ends. Every file belongs to one step and, but for the lists of works,
to one part of the batch, so that no step holds more than a part: some hundred thousand characters,
or one document of more.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import numpy as np
import orjson
from numpy.typing import NDArray

from planes.data.pipeline import work as works_format
from planes.data.pipeline.chunk import TextChunk
from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.work import Work
from planes.shared.domain import spans_key, text_key
from planes.shared.ports import ObjectStore

Vectors = NDArray[np.float32]


class BatchFiles:
    """The intermediates of one run; writing again replaces."""

    def __init__(self, objects: ObjectStore, run_id: str) -> None:
        """Store where they lie."""
        self._objects = objects
        self._run_id = run_id
        self._prefix = f"batches/{run_id}/"

    def within(self, name: str) -> "BatchFiles":
        """Return the place of a batch that is worked on in the midst of this one."""
        return BatchFiles(self._objects, f"{self._run_id}/{name}")

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
        """Keep a document's text and its spans, for good."""
        await self._objects.put(_text_key(work), extracted.text.encode())
        spans = orjson.dumps(extracted.spans())
        await self._objects.put(_spans_key(work), spans)

    async def text(self, work: Work) -> str:
        """Return a document's text."""
        return (await self._objects.get(_text_key(work))).decode()

    async def extracted(self, work: Work) -> ExtractedText:
        """Return a document's text and spans."""
        spans = orjson.loads(await self._objects.get(_spans_key(work)))
        return ExtractedText.of(await self.text(work), spans)

    async def put_chunks(self, part: int, chunks: Mapping[UUID, Sequence[TextChunk]]) -> None:
        """Keep the chunks of a part's versions."""
        lines = (
            orjson.dumps((str(version_id), some), option=orjson.OPT_APPEND_NEWLINE)
            for version_id, some in chunks.items()
        )
        await self._objects.put(self._key(part, "chunks.jsonl"), b"".join(lines))

    async def chunks(self, part: int) -> dict[UUID, list[TextChunk]]:
        """Return the chunks of a part's versions, each version's in order."""
        lines = await self._objects.get(self._key(part, "chunks.jsonl"))
        versions = (orjson.loads(line) for line in lines.splitlines())
        return {UUID(version_id): [TextChunk(**c) for c in some] for version_id, some in versions}

    async def put_vectors(self, part: int, vectors: Mapping[UUID, Vectors]) -> None:
        """Keep the vectors of a part's versions, each of shape (chunks, dimension)."""
        ids = np.array([version_id.bytes for version_id in vectors], dtype="V16")
        counts = np.array([len(some) for some in vectors.values()], dtype=np.int64)
        arrays = {"ids": ids, "counts": counts}
        if vectors:
            arrays["vectors"] = np.concatenate(list(vectors.values()))
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        await self._objects.put(self._key(part, "vectors.npz"), content.getvalue())

    async def vectors(self, part: int) -> dict[UUID, Vectors]:
        """Return the vectors of a part's versions, each version's in the order of its chunks."""
        content = io.BytesIO(await self._objects.get(self._key(part, "vectors.npz")))
        with np.load(content, allow_pickle=False) as arrays:
            ids = [UUID(bytes=version_id.tobytes()) for version_id in arrays["ids"]]
            if not ids:
                return {}
            places = np.cumsum(arrays["counts"])[:-1]
            return dict(zip(ids, np.split(arrays["vectors"], places), strict=True))

    async def remove(self) -> int:
        """Remove everything of this run but texts and spans; return how many files there were."""
        return await self._objects.remove_prefix(self._prefix)

    def _key(self, part: int, name: str) -> str:
        return f"{self._prefix}{part}.{name}"


def _text_key(work: Work) -> str:
    return text_key(work.tenant_id, work.document_id, work.version_id)


def _spans_key(work: Work) -> str:
    return spans_key(work.tenant_id, work.document_id, work.version_id)
