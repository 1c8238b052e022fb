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
from planes.shared.domain import Ranked

_DEPTH = 5  # passages
_MOST_SENTENCES = 96  # of all of them, so that tables do not cost more than prose


class SentenceEvidence:
    """Adds to the first passages of a ranking the cosine of their closest sentences."""

    def __init__(self, sentences: EmbedOf) -> None:
        """Store what embeds a tenant's sentences."""
        self._sentences = sentences

    async def rerank(
        self, question: str, vector: NDArray[np.float32], ranked: Sequence[Ranked]
    ) -> list[Ranked]:
        """Return the pool in the order that its sentences give it.

        Raises:
            Unavailable: The embedder does not answer.
        """
        del question
        sentences = list(islice(_sentences(ranked[:_DEPTH]), _MOST_SENTENCES))
        if not sentences:
            return list(ranked)
        tenant_id = ranked[0].candidate.chunk.tenant_id
        vectors = await self._sentences(tenant_id)([text for _, text in sentences])
        closest: dict[int, float] = {}
        for (place, _), cosine in zip(sentences, (vectors @ vector).tolist(), strict=True):
            closest[place] = max(cosine, closest.get(place, -1.0))
        candidates = [item.candidate for item in ranked]
        for place, cosine in closest.items():
            candidates[place] = replace(candidates[place], sentence=cosine)
        return fuse(candidates)


def _sentences(ranked: Sequence[Ranked]) -> Iterator[tuple[int, str]]:
    """Yield each sentence with the place of its passage."""
    for place, item in enumerate(ranked):
        text = item.candidate.chunk.text
        for start, end in sentence_spans(text):
            yield place, text[start:end]
