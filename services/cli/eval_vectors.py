"""Vectors that are kept in a file from one evaluation to the next."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from planes.shared.embedding import MiniLMEmbedder

Vectors = NDArray[np.float32]


class KeptVectors:
    """An embedder that embeds no text twice; the file is written when the context ends."""

    def __init__(self, embedder: MiniLMEmbedder, path: Path | None) -> None:
        """Store the embedder, and where its vectors are kept (nowhere if None)."""
        self._embedder = embedder
        self._path = path
        self._kept: dict[str, NDArray[np.float32]] = {}

    def __enter__(self) -> Self:
        """Read the file, if there is one."""
        if self._path is not None and self._path.exists():
            with np.load(self._path, allow_pickle=False) as arrays:
                self._kept = dict(zip(arrays["texts"].tolist(), arrays["vectors"], strict=True))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the file."""
        if self._path is not None and self._kept:
            with self._path.open("wb") as file:
                vectors = np.stack(list(self._kept.values()))
                np.savez(file, texts=np.array(list(self._kept)), vectors=vectors)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text."""
        names = [sha256(text.encode()).hexdigest() for text in texts]
        missing = {n: text for n, text in zip(names, texts, strict=True) if n not in self._kept}
        if missing:
            vectors = self._embedder.embed(list(missing.values()))
            self._kept |= dict(zip(missing, vectors, strict=True))
        return np.stack([self._kept[name] for name in names])
