"""Retrieval by meaning and by words, within one tenant."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import structlog
from numpy.typing import NDArray

from planes.serving.retrieval.fusion import Ranked, fuse
from planes.serving.retrieval.registry import DocumentRegistry
from planes.shared.domain import Arms, Chunk, Passage, SearchScope
from planes.shared.stores.postgres_chunks import PostgresChunks

Vectors: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[Vectors]]

_DEPTH = 100
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages of a question, best first, and the highest cosine among them (0 if none)."""

    passages: tuple[Passage, ...]
    closeness: float


class HybridRetriever:
    """Finds passages for questions."""

    def __init__(self, chunks: PostgresChunks, registry: DocumentRegistry, embed: Embed) -> None:
        """Store the parts."""
        self._chunks = chunks
        self._registry = registry
        self._embed = embed

    async def retrieve(self, question: str, *, scope: SearchScope, k: int) -> Retrieved:
        """Return at most `k` passages of living documents in `scope`.

        Raises:
            Unavailable: The embedder or the database does not answer.
        """
        vector = (await self._embed([question]))[0]
        arms = await self._chunks.search(question, vector, scope=scope, depth=_DEPTH)
        ranked = [item for item in fuse(arms.candidates) if _is_inside(item.candidate.chunk, scope)]
        passages = await self._passages(ranked, scope)
        return Retrieved(passages[:k], _closeness(passages[:k], arms))

    async def _passages(self, ranked: Sequence[Ranked], scope: SearchScope) -> tuple[Passage, ...]:
        if not ranked:
            return ()
        versions = await self._registry.living_versions(
            scope.tenant_id, [item.candidate.chunk.version_id for item in ranked]
        )
        return tuple(
            Passage(item.candidate.chunk, named.document_name, named.number, item.score)
            for item in ranked
            if (named := versions.get(item.candidate.chunk.version_id))
        )


def _is_inside(chunk: Chunk, scope: SearchScope) -> bool:
    """Guard what the store's filter already promises; a breach is a defect, so it is logged."""
    inside = chunk.tenant_id == scope.tenant_id and chunk.version_id not in scope.hidden_versions
    if not inside:
        _log.error("chunk outside its scope", chunk_id=str(chunk.id), tenant=str(scope.tenant_id))
    return inside


def _closeness(passages: Sequence[Passage], arms: Arms) -> float:
    chosen = {passage.chunk.id for passage in passages}
    cosines = [c.dense for c in arms.candidates if c.chunk.id in chosen and c.dense is not None]
    return max(cosines, default=0.0)
