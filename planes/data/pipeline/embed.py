"""Chunks to vectors, in this process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import TextChunk, embedded_text

if TYPE_CHECKING:  # the runtime is imported by `model`, in a thread
    from planes.shared.embedding import MiniLMEmbedder

_SLICE = 32


async def embed_chunks(
    embedder: "MiniLMEmbedder", chunks: Sequence[TextChunk], *, on_share: Callable[[float], None]
) -> Vectors:
    """Return one unit vector a chunk, in order.

    Args:
        embedder: Reads heading and text of a chunk together.
        chunks: At least one.
        on_share: Told the share that is done, above 0 and up to 1, after every 32 chunks.
    """
    slices = []
    for first in range(0, len(chunks), _SLICE):
        texts = [embedded_text(c.heading, c.text) for c in chunks[first : first + _SLICE]]
        slices.append(await asyncio.to_thread(embedder.embed, texts))
        on_share(min(1.0, (first + _SLICE) / len(chunks)))
    return np.concatenate(slices)
