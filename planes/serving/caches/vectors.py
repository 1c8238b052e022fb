"""Vectors of texts, kept in this process."""

from collections.abc import Callable, Hashable, Mapping
from hashlib import blake2b
from typing import Any, Generic, TypeVar
from uuid import UUID

import numpy as np
from numpy.typing import DTypeLike, NDArray

from planes.serving.caches.bounded import BoundedCache
from planes.serving.retrieval.hybrid import Embed

Key = TypeVar("Key", bound=Hashable)

_ENTRY_BYTES = 300  # key and bookkeeping, beside the vector's own


def text_key(tenant_id: UUID, model: str, text: str) -> bytes:
    """Return what a tenant's text is found by; it cannot be read, and is shared with nobody."""
    return blake2b(b"\0".join((tenant_id.bytes, model.encode(), text.encode()))).digest()


class VectorCache(Generic[Key]):
    """Embeds each text once, as long as it is remembered."""

    def __init__(self, *, max_bytes: int, kept_as: DTypeLike = np.float32) -> None:
        """Store how many bytes may be kept, and as what numbers."""
        self._kept: BoundedCache[Key, NDArray[Any]] = BoundedCache(max_bytes=max_bytes)
        self._kept_as = kept_as

    async def vectors(
        self,
        texts: Mapping[Key, str],
        embed: Embed,
        *,
        note: Callable[[bool], None] = lambda _: None,
    ) -> dict[Key, NDArray[Any]]:
        """Return the vector of each text; `embed` is asked once, for those that are not known.

        `note` hears of each text whether it is known.

        Raises:
            Unavailable: The embedder does not answer.
        """
        known = {key: self._kept.get(key) for key in texts}
        for vector in known.values():
            note(vector is not None)
        found = {key: vector for key, vector in known.items() if vector is not None}
        missing = [key for key in texts if key not in found]
        if missing:
            rows = await embed([texts[key] for key in missing])
            for key, row in zip(missing, rows, strict=True):
                found[key] = row.astype(self._kept_as)  # a copy: no view that keeps its batch
                self._kept.put(key, found[key], found[key].nbytes + _ENTRY_BYTES)
        return found
