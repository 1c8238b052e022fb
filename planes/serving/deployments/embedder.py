"""The embedder as a deployment: calls that wait share an inference."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import serve

from planes.serving.deployments.embedding_queue import Call, EmbeddingQueue
from planes.serving.deployments.loopback import listen_on_loopback_where_alone
from planes.shared.embedding_models import MODEL_NAME, WeightsError, find_model
from planes.shared.settings import EmbeddingPrecision

if TYPE_CHECKING:
    from planes.shared.embedding import BertEmbedder, Vectors

REQUEST_TEXTS = 32
"""The most texts of one call, and of a batch: what a question waits for at the most."""


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Embedder:
    """Texts to vectors, in a thread, so that the replica's event loop stays free.

    The default model is there from the beginning; another one, which a generation of the index is
    made by, is loaded when it is first asked for.
    """

    def __init__(
        self, *, threads: int, precision: EmbeddingPrecision, models_dir: Path | None
    ) -> None:
        """Load the default model (under a second)."""
        listen_on_loopback_where_alone()
        self._options: dict[str, Any] = {"threads": threads, "precision": precision}
        self._models_dir = models_dir
        self._embedders: dict[str, BertEmbedder] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        self._queue: EmbeddingQueue[Vectors | WeightsError] = EmbeddingQueue(
            self._embed, self._thread, batch_texts=REQUEST_TEXTS
        )
        self._embedder(MODEL_NAME)

    async def check_health(self) -> None:
        """Embed a word: a replica that cannot within Serve's deadline is replaced."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._embed, [(["health"], MODEL_NAME)])

    async def embed(self, call: Call) -> "Vectors | WeightsError":
        """Return one unit vector a text; a call has `REQUEST_TEXTS` at most.

        A model that is not there gives the error in place of the vectors, so that other calls of
        the batch are answered.
        """
        return await self._queue.embed(call)

    def _embed(self, calls: Sequence[Call]) -> "list[Vectors | WeightsError]":
        found: dict[int, Vectors | WeightsError] = {}
        for model in dict.fromkeys(wanted for _, wanted in calls):
            places = [place for place, (_, wanted) in enumerate(calls) if wanted == model]
            try:
                shares = embed_together(self._embedder(model), [calls[p][0] for p in places])
            except WeightsError as error:
                found |= dict.fromkeys(places, error)
            else:
                found |= dict(zip(places, shares, strict=True))
        return [found[place] for place in range(len(calls))]

    def _embedder(self, model: str) -> "BertEmbedder":
        # The process that binds deployments imports this module and must not load OpenVINO.
        from planes.shared.embedding import BertEmbedder

        if model not in self._embedders:
            files = find_model(model, self._models_dir)
            self._embedders[model] = BertEmbedder(files, **self._options)
        return self._embedders[model]


def embed_together(embedder: "BertEmbedder", requests: Sequence[Sequence[str]]) -> "list[Vectors]":
    """Embed the texts of several requests in one call and hand each its own rows."""
    vectors = embedder.embed_questions([text for texts in requests for text in texts])
    ends, shares = 0, []
    for texts in requests:
        shares.append(vectors[ends : ends + len(texts)])
        ends += len(texts)
    return shares
