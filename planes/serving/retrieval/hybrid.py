"""Retrieval by meaning and by words, within one tenant."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from planes.serving.retrieval.duplicates import without_near_duplicates
from planes.serving.retrieval.fusion import fuse
from planes.serving.retrieval.registry import DocumentRegistry, NamedVersion
from planes.serving.tracing import note, span
from planes.shared.domain import Arms, Chunk, Passage, Ranked, SearchScope
from planes.shared.index_ports import ChunkReader, Reranker, RerankerLate

Vectors: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[Vectors]]
EmbedBy: TypeAlias = Callable[[str], Embed]
"""Returns the function that embeds by a model, which is named."""
EmbedOf: TypeAlias = Callable[[UUID], Embed]
"""Returns the function that embeds texts of a tenant."""

_DEPTH = 100
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages of a question, best first, and the highest cosine among them (0 if none).

    `is_reranked` is False where the reranker was not done in time: another time they may come in
    another order.
    """

    passages: tuple[Passage, ...]
    closeness: float
    is_reranked: bool = True


class HybridRetriever:
    """Finds passages for questions."""

    def __init__(
        self,
        chunks: ChunkReader,
        registry: DocumentRegistry,
        embed: Embed,
        reranker: Reranker | None = None,
    ) -> None:
        """Store the parts; without a reranker the order is that of the arms."""
        self._chunks = chunks
        self._registry = registry
        self._embed = embed
        self._reranker = reranker

    async def retrieve(self, question: str, *, scope: SearchScope, k: int) -> Retrieved:
        """Return at most `k` passages of living documents in `scope`, none twice.

        Raises:
            Unavailable: The embedder or a store does not answer.
        """
        with span("embed"):
            vector = (await self._embed([question]))[0]
        with span("arms"):
            arms = await self._chunks.search(question, vector, scope=scope, depth=_DEPTH)
            _note_arms(arms)
        ranked = [item for item in fuse(arms.candidates) if _is_inside(item.candidate.chunk, scope)]
        is_reranked = True
        if self._reranker is not None and ranked:
            with span("rerank", candidates=len(ranked)):
                try:
                    ranked = await self._reranker.rerank(question, vector, ranked)
                except RerankerLate:
                    is_reranked = False
        passages = await self._passages(ranked, scope, k)
        return Retrieved(passages, _closeness(passages, arms), is_reranked)

    async def _passages(
        self, ranked: Sequence[Ranked], scope: SearchScope, k: int
    ) -> tuple[Passage, ...]:
        if not ranked:
            return ()
        versions = await self._registry.living_versions(
            scope.tenant_id, [item.candidate.chunk.version_id for item in ranked]
        )
        living = (item for item in ranked if item.candidate.chunk.version_id in versions)
        return tuple(
            _passage(item, versions[item.candidate.chunk.version_id])
            for item in islice(without_near_duplicates(living), k)
        )


def _passage(item: Ranked, named: NamedVersion) -> Passage:
    return Passage(item.candidate.chunk, named.document_name, named.number, item.score)


def _is_inside(chunk: Chunk, scope: SearchScope) -> bool:
    """Guard what the store's filter already promises; a breach is a defect, so it is logged."""
    inside = chunk.tenant_id == scope.tenant_id and chunk.version_id not in scope.hidden_versions
    if not inside:
        _log.error("chunk outside its scope", chunk_id=str(chunk.id), tenant=str(scope.tenant_id))
    return inside


def _note_arms(arms: Arms) -> None:
    dense = sum(candidate.dense is not None for candidate in arms.candidates)
    lexical = sum(bool(candidate.lexical) for candidate in arms.candidates)
    note(candidates=len(arms.candidates), dense=dense, lexical=lexical)


def _closeness(passages: Sequence[Passage], arms: Arms) -> float:
    chosen = {passage.chunk.id for passage in passages}
    cosines = [c.dense for c in arms.candidates if c.chunk.id in chosen and c.dense is not None]
    return max(cosines, default=0.0)
