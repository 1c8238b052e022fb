"""Chunks to vectors, in this process; the model is loaded at the first chunk and kept."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import TextChunk, embedded_text
from planes.shared.embedding import DIMENSION, MiniLMEmbedder

_SLICE = 128


class ChunkEmbedder:
    """The embedder of one process; safe for one task at a time."""

    def __init__(self, *, threads: int = 1) -> None:
        """Store how many CPU threads one inference takes."""
        self._threads = threads

    def load(self) -> None:
        """Load the model, unless it is loaded.

        Raises:
            WeightsError: The model is absent or not the published one.
        """
        _ = self._model

    async def embed(
        self, chunks: Sequence[TextChunk], *, on_share: Callable[[float], None]
    ) -> Vectors:
        """Return one unit vector a chunk, shape (len(chunks), 384).

        Args:
            chunks: In any order; heading and text are embedded together.
            on_share: Told the share that is done, above 0 and up to 1, after every 128 chunks.
        """
        vectors = np.empty((len(chunks), DIMENSION), dtype=np.float32)
        for first in range(0, len(chunks), _SLICE):
            rows = slice(first, first + _SLICE)
            texts = [embedded_text(chunk.heading, chunk.text) for chunk in chunks[rows]]
            vectors[rows] = await asyncio.to_thread(self._embed, texts)
            on_share(min(1.0, (first + _SLICE) / len(chunks)))
        return vectors

    def _embed(self, texts: list[str]) -> Vectors:
        return self._model.embed(texts)

    @cached_property
    def _model(self) -> MiniLMEmbedder:
        return MiniLMEmbedder(threads=self._threads)
