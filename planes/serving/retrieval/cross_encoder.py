"""Reranking by a cross-encoder: question and passage read together by one model.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085; any model that sentence-transformers loads
as a `CrossEncoder`.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from planes.shared.domain import Ranked

_DEPTH = 20  # passages
_BATCH = 8


def is_installed() -> bool:
    """Tell whether the extra that cross-encoders need is there; imports nothing."""
    return find_spec("sentence_transformers") is not None


class CrossEncoderReranker:
    """Orders the first passages of a ranking by a model's scores; the others follow as they were.

    The model works in a thread of its own, so that the replica's event loop stays free.
    """

    def __init__(self, weights: str) -> None:
        """Load the weights: a folder, or a name on the model hub.

        Raises:
            OSError: There are no such weights.
        """
        # It takes seconds to import, and is an extra.
        from sentence_transformers import (  # type: ignore[import-not-found, unused-ignore]
            CrossEncoder,
        )

        self._model: Any = CrossEncoder(weights)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reranker")

    async def rerank(
        self, question: str, vector: NDArray[np.float32], ranked: Sequence[Ranked]
    ) -> list[Ranked]:
        """Return the pool with its first passages in the model's order.

        They share out the scores that they had, so that scores fall along the whole list and keep
        the meaning that they have elsewhere.
        """
        del vector
        first = ranked[:_DEPTH]
        pairs = [(question, _read(item)) for item in first]
        loop = asyncio.get_running_loop()
        scores = await loop.run_in_executor(self._thread, self._scores, pairs)
        order = sorted(range(len(first)), key=lambda place: (-scores[place], place))
        reordered = [
            Ranked(first[place].candidate, held.score)
            for place, held in zip(order, first, strict=True)
        ]
        return [*reordered, *ranked[_DEPTH:]]

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        found: list[float] = self._model.predict(
            pairs, batch_size=_BATCH, show_progress_bar=False
        ).tolist()
        return found


def _read(item: Ranked) -> str:
    chunk = item.candidate.chunk
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading else chunk.text
