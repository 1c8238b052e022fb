"""Retrieval whose results are kept until the tenant's documents change."""

from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog
from pydantic import TypeAdapter, ValidationError

from planes.serving.caches.keys import CacheKeys, in_any_order
from planes.serving.caches.lookups import note_lookup
from planes.serving.caches.shared import SharedCache
from planes.serving.retrieval.hybrid import HybridRetriever, Retrieved
from planes.serving.retrieval.registry import DocumentRegistry
from planes.serving.tracing import note
from planes.shared.domain import SearchScope
from planes.shared.stores.redis_caches import CacheEntry

_KIND = "passages"
_RETRIEVED = TypeAdapter(Retrieved)
_log = structlog.get_logger(__name__)


class CachedRetriever:
    """Finds passages for questions, the same question's at once.

    What was kept is shown only where every passage of it is of a living version still: a document
    may have been deleted between the request's reservation and its search.
    """

    def __init__(
        self,
        retriever_of: Callable[[UUID, int], Awaitable[HybridRetriever]],
        registry: DocumentRegistry,
        cache: SharedCache,
        keys: CacheKeys,
    ) -> None:
        """Store the parts; `retriever_of` a tenant and a generation asks where nothing is kept."""
        self._retriever_of = retriever_of
        self._registry = registry
        self._cache = cache
        self._keys = keys

    async def retrieve(self, question: str, *, scope: SearchScope, k: int) -> Retrieved:
        """Return at most `k` passages of living documents in `scope`.

        Raises:
            Unavailable: The embedder or a store does not answer.
        """
        version = scope.corpus_version
        if version is None or not self._cache.is_on:
            retriever = await self._retriever_of(scope.tenant_id, scope.generation)
            return await retriever.retrieve(question, scope=scope, k=k)
        digest = self._keys.digest(
            _KIND,
            tenant_id=scope.tenant_id,
            corpus_version=version,
            given=[question, in_any_order(scope), k],
        )
        kept = await self._kept(digest, scope)
        note_lookup("retrieval", is_hit=kept is not None)
        note(is_cached=kept is not None)
        if kept is not None:
            return kept
        retriever = await self._retriever_of(scope.tenant_id, scope.generation)
        found = await retriever.retrieve(question, scope=scope, k=k)
        if found.is_reranked:
            value = _RETRIEVED.dump_json(found)
            await self._cache.put(CacheEntry(scope.tenant_id, version, _KIND, digest, value))
        return found

    async def _kept(self, digest: str, scope: SearchScope) -> Retrieved | None:
        value = await self._cache.get(scope.tenant_id, _KIND, digest)
        if value is None:
            return None
        try:
            found = _RETRIEVED.validate_json(value)
        except ValidationError:
            _log.error("cached passages cannot be read", tenant_id=str(scope.tenant_id))
            return None
        chunks = [passage.chunk for passage in found.passages]
        if not all(chunk.tenant_id == scope.tenant_id for chunk in chunks):
            _log.error("cached passages outside their scope", tenant_id=str(scope.tenant_id))
            return None
        wanted = {chunk.version_id for chunk in chunks}
        if not wanted:
            return found
        living = await self._registry.living_versions(scope.tenant_id, wanted)
        return found if wanted == living.keys() else None
