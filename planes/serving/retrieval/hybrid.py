"""Retrieval by meaning and by words, within one tenant."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from planes.serving.retrieval.duplicates import Told
from planes.serving.retrieval.fusion import fuse
from planes.serving.retrieval.registry import DocumentRegistry, NamedVersion
from planes.serving.tracing import note, span
from planes.shared.domain import Arms, Chunk, Passage, Ranked, SearchScope
from planes.shared.index_ports import ChunkReader, Reranker

Vectors: TypeAlias = NDArray[np.float32]
Embed: TypeAlias = Callable[[Sequence[str]], Awaitable[Vectors]]
EmbedBy: TypeAlias = Callable[[str], Embed]
"""Returns the function that embeds by a model, which is named."""
EmbedOf: TypeAlias = Callable[[UUID], Embed]
"""Returns the function that embeds texts of a tenant."""

_DEPTH = 100
_READ = 20  # candidates of which texts are read
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
        *,
        reranker_deadline_s: float | None = None,
    ) -> None:
        """Store the parts; without a reranker, or where it is late, the order is the arms'."""
        self._chunks = chunks
        self._registry = registry
        self._embed = embed
        self._reranker = reranker
        self._reranker_deadline_s = reranker_deadline_s

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
        reading = _Reading(self._chunks, self._registry, scope, at_once=max(_READ, k))
        ranked = await reading.without_gone(fuse(arms.candidates))
        is_reranked = True
        if self._reranker is not None and ranked:
            first = [reading.chunk_of(item) for item in ranked[: self._reranker.depth]]
            with span("rerank", candidates=len(ranked)):
                deadline = asyncio.timeout(self._reranker_deadline_s)
                try:
                    async with deadline:
                        ranked = await self._reranker.rerank(question, vector, ranked, first)
                except TimeoutError:
                    if not deadline.expired():
                        raise
                    _log.warning("reranker missed its deadline", s=self._reranker_deadline_s)
                    is_reranked = False
        passages = await reading.passages(ranked, k)
        return Retrieved(passages, _closeness(passages, arms), is_reranked)


class _Reading:
    """Reads the best of a ranking, and shows what is a passage of a living document in scope."""

    def __init__(
        self, chunks: ChunkReader, registry: DocumentRegistry, scope: SearchScope, *, at_once: int
    ) -> None:
        """Store what is read, and how many candidates at once."""
        self._chunks = chunks
        self._registry = registry
        self._scope = scope
        self._at_once = at_once
        self._read: dict[UUID, tuple[Chunk, NamedVersion] | None] = {}

    async def without_gone(self, ranked: Sequence[Ranked]) -> list[Ranked]:
        """Read the beginning of a ranking; return it without what is no passage there.

        As many as are read at once are passages then, where there are so many.
        """
        left = list(ranked)
        while True:
            await self._look_at(left[: self._at_once])
            gone = {item for item in left[: self._at_once] if self._known(item) is None}
            if not gone:
                return left
            left = [item for item in left if item not in gone]

    def chunk_of(self, item: Ranked) -> Chunk:
        """Return the chunk of a candidate that was read and is a passage."""
        known = self._known(item)
        assert known is not None  # noqa: S101 - the caller's promise
        return known[0]

    async def passages(self, ranked: Sequence[Ranked], k: int) -> tuple[Passage, ...]:
        """Return the first `k` passages that are not nearly the same as a better one."""
        found, told = list[Passage](), Told()
        for place, item in enumerate(ranked):
            if len(found) == k:
                break
            if item.candidate.id not in self._read:
                await self._look_at(ranked[place : place + self._at_once])
            known = self._known(item)
            if known is not None and told.is_news(known[0].text):
                chunk, named = known
                found.append(Passage(chunk, named.document_name, named.number, item.score))
        return tuple(found)

    def _known(self, item: Ranked) -> tuple[Chunk, NamedVersion] | None:
        return self._read.get(item.candidate.id)

    async def _look_at(self, ranked: Sequence[Ranked]) -> None:
        """Read what of it was not read yet, and the names of its documents meanwhile."""
        new = [item.candidate for item in ranked if item.candidate.id not in self._read]
        if not new:
            return
        tenant_id = self._scope.tenant_id
        chunks, versions = await asyncio.gather(
            self._chunks.chunks_of(
                tenant_id, [one.id for one in new], generation=self._scope.generation
            ),
            self._registry.living_versions(tenant_id, [one.version_id for one in new]),
        )
        self._read |= dict.fromkeys(one.id for one in new)
        for chunk in chunks:
            if _is_inside(chunk, self._scope) and chunk.version_id in versions:
                self._read[chunk.id] = chunk, versions[chunk.version_id]


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
    cosines = [c.dense for c in arms.candidates if c.id in chosen and c.dense is not None]
    return max(cosines, default=0.0)
