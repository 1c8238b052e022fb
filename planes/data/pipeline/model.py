"""The embedding model of one process, loaded while other work goes on."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from planes.shared.settings import EmbeddingPrecision

if TYPE_CHECKING:
    from planes.shared.embedding import MiniLMEmbedder


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A tokenizer that neither truncates nor pads, and the embedder that it belongs to."""

    tokenizer: Tokenizer
    embedder: "MiniLMEmbedder"


class BackgroundModel:
    """Loads the model in a thread, once, at the first wish for it."""

    def __init__(self, *, threads: int = 1, precision: EmbeddingPrecision = "auto") -> None:
        """Store how many CPU threads the embedder takes, and its precision."""
        self._threads = threads
        self._precision = precision
        self._loading: asyncio.Future[EmbeddingModel] | None = None

    def start(self) -> "asyncio.Future[EmbeddingModel]":
        """Start loading, unless that was done, and return what to wait for.

        The future raises `WeightsError` where the model is absent or not the published one.
        """
        if self._loading is None:
            loop = asyncio.get_running_loop()
            self._loading = loop.run_in_executor(None, _load, self._threads, self._precision)
        return self._loading


def _load(threads: int, precision: EmbeddingPrecision) -> EmbeddingModel:
    # the runtime takes half a second to import: here it does so beside the parsing
    from planes.shared.embedding import MiniLMEmbedder, load_tokenizer

    embedder = MiniLMEmbedder(threads=threads, precision=precision)
    return EmbeddingModel(load_tokenizer(), embedder)
