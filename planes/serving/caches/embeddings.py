"""Vectors of questions, kept in this process."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np

from planes.serving.caches.lookups import note_lookup
from planes.serving.caches.vectors import VectorCache, text_key
from planes.serving.retrieval.hybrid import Embed, EmbedBy, Vectors


class EmbeddingCache:
    """Embeds texts of tenants, each text of a tenant once, as long as it is remembered.

    Tenants share nothing: how fast an answer comes tells nobody what others have asked.
    """

    def __init__(self, embed_by: EmbedBy, *, max_bytes: int) -> None:
        """Store what embeds, and how many bytes may be kept."""
        self._embed_by = embed_by
        self._vectors: VectorCache[bytes] = VectorCache(max_bytes=max_bytes)

    def of(self, tenant_id: UUID, model: str, *, is_counted: bool = True) -> Embed:
        """Return the function that embeds a tenant's questions by a model.

        It raises `Unavailable` where the embedder does not answer. What is asked a second time for
        the same answer is not counted among the request's lookups.
        """

        def note(is_hit: bool) -> None:
            if is_counted:
                note_lookup("embedding", is_hit=is_hit)

        async def embed(texts: Sequence[str]) -> Vectors:
            keys = [text_key(tenant_id, model, text) for text in texts]
            asked = dict(zip(keys, texts, strict=True))
            found = await self._vectors.vectors(asked, self._embed_by(model), note=note)
            return np.stack([found[key] for key in keys])

        return embed
