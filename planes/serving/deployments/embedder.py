"""The embedder as a deployment: questions that arrive together share an inference.

A batch is bounded by its texts, so that a question waits for little beside it.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from ray import serve

from planes.serving.deployments.loopback import listen_on_loopback_where_alone
from planes.shared.settings import EmbeddingPrecision

if TYPE_CHECKING:
    from planes.shared.embedding import MiniLMEmbedder, Vectors


REQUEST_TEXTS = 64
"""The most texts of one call."""

_BATCH_TEXTS = 128


def texts_of(requests: Sequence[Sequence[str]]) -> int:
    """Return how many texts requests have together."""
    return sum(map(len, requests))


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Embedder:
    """Texts to vectors, in a thread, so that the replica's event loop stays free."""

    def __init__(self, *, threads: int, precision: EmbeddingPrecision) -> None:
        """Load the model (under a second)."""
        listen_on_loopback_where_alone()
        # The process that binds deployments imports this module and must not load OpenVINO.
        from planes.shared.embedding import MiniLMEmbedder

        self._embedder = MiniLMEmbedder(threads=threads, precision=precision)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")

    async def check_health(self) -> None:
        """Embed a word: a replica that cannot within Serve's deadline is replaced."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._embedder.embed, ["health"])

    @serve.batch(max_batch_size=_BATCH_TEXTS, batch_wait_timeout_s=0.0, batch_size_fn=texts_of)
    async def embed(self, requests: list[Sequence[str]]) -> "list[Vectors]":
        """Return one array a request, one unit vector a text; `REQUEST_TEXTS` at most."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, embed_together, self._embedder, requests)


def embed_together(
    embedder: "MiniLMEmbedder", requests: Sequence[Sequence[str]]
) -> "list[Vectors]":
    """Embed the texts of several requests in one call and hand each its own rows."""
    vectors = embedder.embed([text for texts in requests for text in texts])
    ends, shares = 0, []
    for texts in requests:
        shares.append(vectors[ends : ends + len(texts)])
        ends += len(texts)
    return shares
