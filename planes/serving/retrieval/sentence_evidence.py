"""Reranking without weights of its own: how close the closest sentence of a passage is.

A passage's vector is the mean of all that it says; the one sentence that answers can be lost in it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from planes.serving.retrieval.fusion import fuse
from planes.serving.retrieval.hybrid import Embed
from planes.serving.sentences import sentence_spans
from planes.shared.domain import Ranked

_DEPTH = 10  # passages
_MOST_SENTENCES = 96  # of all of them, so that tables do not cost more than prose
_KEPT_VECTORS = 20_000  # of 768 bytes


class SentenceEvidence:
    """Adds to the first passages of a ranking the cosine of their closest sentences.

    Vectors of sentences are kept, because the passages that people ask for are few.
    """

    def __init__(self, embed: Embed) -> None:
        """Store the embedder."""
        self._embed = embed
        self._kept: dict[str, NDArray[np.float16]] = {}

    async def rerank(self, question: str, ranked: Sequence[Ranked]) -> list[Ranked]:
        """Return the pool in the order that its sentences give it.

        Raises:
            Unavailable: The embedder does not answer.
        """
        sentences = list(islice(_sentences(ranked[:_DEPTH]), _MOST_SENTENCES))
        if not sentences:
            return list(ranked)
        cosines = await self._cosines(question, [text for _, text in sentences])
        closest: dict[int, float] = {}
        for (place, _), cosine in zip(sentences, cosines, strict=True):
            closest[place] = max(cosine, closest.get(place, -1.0))
        candidates = (item.candidate for item in ranked)
        return fuse([replace(c, sentence=closest.get(i)) for i, c in enumerate(candidates)])

    async def _cosines(self, question: str, texts: Sequence[str]) -> list[float]:
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        fresh = await self._embed([question, *missing])
        vectors = {text: self._kept[text] for text in texts if text in self._kept}
        vectors |= zip(missing, fresh[1:].astype(np.float16), strict=True)
        self._keep(vectors)
        cosines: list[float] = (np.stack([vectors[text] for text in texts]) @ fresh[0]).tolist()
        return cosines

    def _keep(self, vectors: dict[str, NDArray[np.float16]]) -> None:
        """Keep the vectors just used, and forget those that were not used for the longest time."""
        for text in vectors:
            self._kept.pop(text, None)
        self._kept |= vectors
        for text in list(islice(self._kept, max(0, len(self._kept) - _KEPT_VECTORS))):
            del self._kept[text]


def _sentences(ranked: Sequence[Ranked]) -> Iterator[tuple[int, str]]:
    """Yield each sentence with the place of its passage."""
    for place, item in enumerate(ranked):
        text = item.candidate.chunk.text
        for start, end in sentence_spans(text):
            yield place, text[start:end]
