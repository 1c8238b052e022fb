"""Reranking by a cross-encoder: question and passage read together by one model.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085; any model that sentence-transformers loads
as a `CrossEncoder`.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from planes.shared.domain import Chunk, Ranked

Pairs: TypeAlias = Sequence[tuple[str, str]]
Scorer: TypeAlias = Callable[[Pairs], Sequence[float]]
"""Question and passage to how well the one answers the other; may take its time."""

_BATCH = 8
_MAX_TOKENS = 512  # of question and passage together
_MAX_QUESTION_CHARS = 1000  # leaves room for the passage


def is_installed() -> bool:
    """Tell whether the extra that cross-encoders need is there; imports nothing."""
    return find_spec("sentence_transformers") is not None


def load_cross_encoder(weights: str) -> Scorer:
    """Load the weights: a folder, or a name on the model hub.

    Raises:
        OSError: There are no such weights.
    """
    # It takes seconds to import, and is an extra.
    from sentence_transformers import (  # type: ignore[import-not-found, unused-ignore]
        CrossEncoder,
    )

    model: Any = CrossEncoder(weights)
    model.max_seq_length = min(model.max_seq_length or _MAX_TOKENS, _MAX_TOKENS)

    def score(pairs: Pairs) -> Sequence[float]:
        found: list[float] = model.predict(
            pairs, batch_size=_BATCH, show_progress_bar=False
        ).tolist()
        return found

    return score


class CrossEncoderReranker:
    """Orders the first passages of a ranking by a model's scores; the others follow as they were.

    The model works in a thread of its own, so that the replica's event loop stays free. A ranking
    that is cancelled while it waits for its turn never begins.
    """

    depth = 20  # passages

    def __init__(self, score: Scorer) -> None:
        """Store the model."""
        self._score = score
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reranker")

    async def rerank(
        self,
        question: str,
        vector: NDArray[np.float32],
        ranked: Sequence[Ranked],
        first: Sequence[Chunk],
    ) -> list[Ranked]:
        """Return the pool with its first passages in the model's order.

        They share out the scores that they had, so that scores fall along the whole list and keep
        the meaning that they have elsewhere.
        """
        del vector
        pairs = [(question[:_MAX_QUESTION_CHARS], _read(chunk)) for chunk in first]
        loop = asyncio.get_running_loop()
        scores = await loop.run_in_executor(self._thread, self._score, pairs)
        order = sorted(range(len(first)), key=lambda place: (-scores[place], place))
        reordered = [
            Ranked(ranked[place].candidate, held.score)
            for place, held in zip(order, ranked, strict=False)
        ]
        return [*reordered, *ranked[len(first) :]]


def _read(chunk: Chunk) -> str:
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text
