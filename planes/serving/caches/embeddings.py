"""Vectors of questions, kept in this process."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from planes.serving.caches.bounded import BoundedCache
from planes.serving.caches.keys import CacheKeys
from planes.serving.caches.lookups import note_lookup
from planes.serving.retrieval.hybrid import Embed, Vectors

_KIND = "embedding"
_ENTRY_BYTES = 300  # key and bookkeeping, beside the vector's own


class EmbeddingCache:
    """Embeds texts of tenants, each text of a tenant once, as long as it is remembered.

    Tenants share nothing: how fast an answer comes tells nobody what others have asked.
    """

    def __init__(self, embed: Embed, keys: CacheKeys, *, max_bytes: int) -> None:
        """Store who embeds, and how many bytes may be kept."""
        self._embed = embed
        self._keys = keys
        self._vectors: BoundedCache[str, NDArray[np.float32]] = BoundedCache(max_bytes=max_bytes)

    def of(self, tenant_id: UUID) -> Embed:
        """Return the function that embeds a tenant's questions.

        It raises `Unavailable` where the embedder does not answer.
        """

        async def embed(texts: Sequence[str]) -> Vectors:
            return await self._embedded(tenant_id, texts)

        return embed

    async def _embedded(self, tenant_id: UUID, texts: Sequence[str]) -> Vectors:
        digests = [self._digest(tenant_id, text) for text in texts]
        found = {digest: self._vectors.get(digest) for digest in digests}
        for digest in digests:
            note_lookup("embedding", is_hit=found[digest] is not None)
        missing = {
            digest: text
            for digest, text in zip(digests, texts, strict=True)
            if found[digest] is None
        }
        if missing:
            vectors = await self._embed(list(missing.values()))
            for digest, row in zip(missing, vectors, strict=True):
                vector = np.array(row)  # not a view that keeps its whole batch
                found[digest] = vector
                self._vectors.put(digest, vector, vector.nbytes + _ENTRY_BYTES)
        return np.stack([known for digest in digests if (known := found[digest]) is not None])

    def _digest(self, tenant_id: UUID, text: str) -> str:
        return self._keys.digest(_KIND, tenant_id=tenant_id, corpus_version=None, given=text)
