"""The embedding models of one process, loaded while other work goes on."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

from planes.shared.embedding_models import find_model
from planes.shared.settings import EmbeddingPrecision

if TYPE_CHECKING:
    from planes.shared.embedding import BertEmbedder


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A tokenizer that neither truncates nor pads, and the embedder that it belongs to."""

    tokenizer: Tokenizer
    embedder: "BertEmbedder"


class BackgroundModel:
    """Loads each model in a thread, once, at the first wish for it."""

    def __init__(
        self,
        *,
        threads: int = 1,
        precision: EmbeddingPrecision = "auto",
        models_dir: Path | None = None,
    ) -> None:
        """Store how many CPU threads an embedder takes, its precision, and where models are."""
        self._threads = threads
        self._precision = precision
        self._models_dir = models_dir
        self._loading: dict[str, asyncio.Future[EmbeddingModel]] = {}

    def start(self, name: str) -> "asyncio.Future[EmbeddingModel]":
        """Start loading a model, unless that was done, and return what to wait for.

        The future raises `WeightsError` where the model is absent or not the published one.
        """
        if name not in self._loading:
            loop = asyncio.get_running_loop()
            self._loading[name] = loop.run_in_executor(None, self._load, name)
        return self._loading[name]

    def _load(self, name: str) -> EmbeddingModel:
        # the runtime takes half a second to import: here it does so beside the parsing
        from planes.shared.embedding import BertEmbedder, load_tokenizer

        files = find_model(name, self._models_dir)
        embedder = BertEmbedder(files, threads=self._threads, precision=self._precision)
        return EmbeddingModel(load_tokenizer(files.folder), embedder)
