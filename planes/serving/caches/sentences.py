"""Vectors of the sentences of passages, kept in this process.

Passages that people ask for are few and do not change, and reading their sentences costs more than
all else of an answer.
"""

from collections.abc import Sequence
from uuid import UUID

import numpy as np

from planes.serving.caches.vectors import VectorCache, text_key
from planes.serving.retrieval.hybrid import Embed, EmbedBy, Vectors


class SentenceVectors:
    """Embeds each sentence of a tenant once, as long as it is remembered.

    A sentence is found by its text, so that a new version of a document costs only what is new in
    it. Tenants share nothing: how fast an answer comes tells nobody what others have.
    """

    def __init__(self, embed_by: EmbedBy, *, max_bytes: int) -> None:
        """Store what embeds, and how many bytes may be kept (about 1,100 a sentence)."""
        self._embed_by = embed_by
        # half precision: cosines are within .0005 of those of float32
        self._kept: VectorCache[bytes] = VectorCache(max_bytes=max_bytes, kept_as=np.float16)

    def of(self, tenant_id: UUID, model: str) -> Embed:
        """Return the function that embeds a tenant's sentences by a model, each text once.

        It raises `Unavailable` where the embedder does not answer.
        """

        async def embed(texts: Sequence[str]) -> Vectors:
            keys = [text_key(tenant_id, model, text) for text in texts]
            asked = dict(zip(keys, texts, strict=True))
            found = await self._kept.vectors(asked, self._embed_by(model))
            return np.stack([found[key] for key in keys]).astype(np.float32)

        return embed
