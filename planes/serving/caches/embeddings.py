"""Vectors of questions, kept in this process."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np

from planes.serving.caches.keys import CacheKeys
from planes.serving.caches.lookups import note_lookup
from planes.serving.caches.vectors import VectorCache
from planes.serving.retrieval.hybrid import Embed, EmbedBy, Vectors

_KIND = "embedding"


class EmbeddingCache:
    """Embeds texts of tenants, each text of a tenant once, as long as it is remembered.

    Tenants share nothing: how fast an answer comes tells nobody what others have asked.
    """

    def __init__(self, embed_by: EmbedBy, keys: CacheKeys, *, max_bytes: int) -> None:
        """Store what embeds, and how many bytes may be kept."""
        self._embed_by = embed_by
        self._keys = keys
        self._vectors: VectorCache[str] = VectorCache(max_bytes=max_bytes)

    def of(self, tenant_id: UUID, model: str, *, is_counted: bool = True) -> Embed:
        """Return the function that embeds a tenant's questions by a model.

        It raises `Unavailable` where the embedder does not answer. What is asked a second time for
        the same answer is not counted among the request's lookups.
        """

        def note(is_hit: bool) -> None:
            if is_counted:
                note_lookup("embedding", is_hit=is_hit)

        async def embed(texts: Sequence[str]) -> Vectors:
            digests = [self._digest(tenant_id, model, text) for text in texts]
            asked = dict(zip(digests, texts, strict=True))
            found = await self._vectors.vectors(asked, self._embed_by(model), note=note)
            return np.stack([found[digest] for digest in digests])

        return embed

    def _digest(self, tenant_id: UUID, model: str, text: str) -> str:
        given = [model, text]
        return self._keys.digest(_KIND, tenant_id=tenant_id, corpus_version=None, given=given)
