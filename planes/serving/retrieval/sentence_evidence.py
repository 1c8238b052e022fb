"""Reranking without weights of its own: how close the closest sentence of a passage is.

A passage's vector is the mean of all that it says; the one sentence that answers can be lost in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from planes.serving.retrieval.fusion import fuse
from planes.serving.retrieval.hybrid import EmbedOf
from planes.serving.sentences import sentence_spans
from planes.shared.domain import Chunk, Ranked

_MOST_SENTENCES = 96  # of all of them, so that tables do not cost more than prose


class SentenceEvidence:
    """Adds to the first passages of a ranking the cosine of their closest sentences."""

    depth = 5  # passages

    def __init__(self, sentences: EmbedOf) -> None:
        """Store what embeds a tenant's sentences."""
        self._sentences = sentences

    async def rerank(
        self,
        question: str,
        vector: NDArray[np.float32],
        ranked: Sequence[Ranked],
        first: Sequence[Chunk],
    ) -> list[Ranked]:
        """Return the pool in the order that its sentences give it.

        Raises:
            Unavailable: The embedder does not answer.
        """
        del question
        sentences = list(islice(_sentences(first), _MOST_SENTENCES))
        if not sentences:
            return list(ranked)
        vectors = await self._sentences(first[0].tenant_id)([text for _, text in sentences])
        closest: dict[int, float] = {}
        for (place, _), cosine in zip(sentences, (vectors @ vector).tolist(), strict=True):
            closest[place] = max(cosine, closest.get(place, -1.0))
        candidates = [item.candidate for item in ranked]
        for place, cosine in closest.items():
            candidates[place] = replace(candidates[place], sentence=cosine)
        return fuse(candidates)


def _sentences(chunks: Sequence[Chunk]) -> Iterator[tuple[int, str]]:
    """Yield each sentence with the place of its passage."""
    for place, chunk in enumerate(chunks):
        for start, end in sentence_spans(chunk.text):
            yield place, chunk.text[start:end]
