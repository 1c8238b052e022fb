"""What an answer from documents needs at the least: one process on libraries, without a platform.

A question is embedded, the product's statement searches by meaning and by words, and the question
is compared with the sentences of the first five chunks, whose vectors are known. There is no HTTP,
account, quota, stored answer, citation check or event; what arrives together is embedded together.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from planes.serving.sentences import sentence_spans
from planes.shared.domain import SearchScope
from planes.shared.embedding import MiniLMEmbedder
from planes.shared.stores.postgres_search import search_statement
from planes.shared.stores.postgres_search_registry import known_terms
from tests.fakes_serving import Library

Vectors = NDArray[np.float32]
_CONNECTIONS = 4
_DEPTH, _FIRST = 100, 5
_BATCH_TEXTS = 64
_BODIES = "SELECT body FROM chunks_g1 WHERE id = ANY ($1)"


@dataclass
class BareAnswers:
    """Answers questions about one tenant's documents; `open` before, `close` afterwards."""

    urls: Mapping[str, str]
    embedder: MiniLMEmbedder = field(default_factory=MiniLMEmbedder)
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _waiting: list[tuple[str, asyncio.Future[Vectors]]] = field(default_factory=list)
    _embedding: asyncio.Task[None] | None = None
    _sentences: dict[str, tuple[list[str], Vectors]] = field(default_factory=dict)

    async def open(self, documents: Sequence[Sequence[str]]) -> None:
        """Index documents of paragraphs, and connect."""
        library = Library(self.urls, self.embedder)
        self._tenant: UUID = await library.add_tenant()
        for number, paragraphs in enumerate(documents):
            await library.add_document(self._tenant, f"{number}.txt", paragraphs)
        self._pool = await asyncpg.create_pool(
            self.urls["admin"],
            min_size=1,
            max_size=_CONNECTIONS,
            server_settings={"app.tenant_id": str(self._tenant)},
        )

    async def close(self) -> None:
        """Let go of the connections and the thread."""
        await self._pool.close()
        self._thread.shutdown()

    async def answer(self, question: str) -> str:
        """Return the sentence that is closest to a question."""
        vector = await self._vector(question)
        scope = SearchScope(self._tenant, 1)
        async with self._pool.acquire() as connection:
            known = await known_terms(connection, question, scope)
            statement, arguments = search_statement(known, vector, scope, _DEPTH)
            rows = await connection.fetch(statement, *arguments)
            first = sorted(rows, key=lambda row: -row["dense"] - row["lexical"])[:_FIRST]
            bodies = await connection.fetch(_BODIES, [row["id"] for row in first])
        read = [await self._read(row["body"]) for row in bodies]
        cosines = np.concatenate([vectors for _, vectors in read]) @ vector
        texts = itertools.chain.from_iterable(sentences for sentences, _ in read)
        return list(texts)[int(cosines.argmax())]

    async def _read(self, body: str) -> tuple[list[str], Vectors]:
        if body not in self._sentences:
            sentences = [body[start:end] for start, end in sentence_spans(body)]
            loop = asyncio.get_running_loop()
            vectors = await loop.run_in_executor(self._thread, self.embedder.embed, sentences)
            self._sentences[body] = sentences, vectors
        return self._sentences[body]

    async def _vector(self, question: str) -> Vectors:
        vector: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, vector))
        if self._embedding is None or self._embedding.done():
            self._embedding = asyncio.create_task(self._embed())
        return await vector

    async def _embed(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            some = self._waiting[:_BATCH_TEXTS]
            del self._waiting[:_BATCH_TEXTS]
            texts = [question for question, _ in some]
            vectors = await loop.run_in_executor(self._thread, self.embedder.embed_questions, texts)
            for (_, waiting), vector in zip(some, vectors, strict=True):
                waiting.set_result(vector)


async def asked(bare: BareAnswers, questions: Sequence[str], connections: int) -> list[float]:
    """Ask every question once, so many at a time; return the seconds that each took."""
    waiting: Iterator[str] = iter(questions)
    taken_s = list[float]()

    async def ask() -> None:
        for question in waiting:
            started = time.perf_counter()
            await bare.answer(question)
            taken_s.append(time.perf_counter() - started)

    await asyncio.gather(*(ask() for _ in range(connections)))
    return taken_s
