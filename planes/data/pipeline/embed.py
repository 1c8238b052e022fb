"""Chunks to vectors, in this process."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from planes.data.pipeline.batch import Vectors

if TYPE_CHECKING:  # the runtime is imported by `model`, in a thread
    from planes.shared.embedding import BertEmbedder

_SLICE = 192


async def embed_in_slices(
    embedder: "BertEmbedder", texts: Sequence[str]
) -> AsyncIterator[tuple[list[int], Vectors]]:
    """Yield (places, vectors) of some texts after the other until all are done.

    Texts of like length go together, whatever their documents, because padding costs as much as
    words.

    Args:
        embedder: Makes the vectors, in a thread.
        texts: Of any length; at most 256 tokens of each are read.
    """
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for first in range(0, len(order), _SLICE):
        places = order[first : first + _SLICE]
        vectors = await asyncio.to_thread(embedder.embed, [texts[place] for place in places])
        yield places, vectors
