"""Search over a judged corpus in this process, with a PostgreSQL of its own."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from uuid import UUID, uuid4

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from planes.data.evaluation.corpus import CorpusTools, CorpusWriter, split_by, whole
from planes.data.evaluation.dataset import Dataset, Entry
from planes.data.pipeline.batch import Vectors
from planes.data.pipeline.chunk import Chunker, TextChunk
from planes.data.settings import available_processors
from planes.serving.caches.sentences import SentenceVectors
from planes.serving.retrieval.fusion import fuse
from planes.serving.retrieval.hybrid import Embed, HybridRetriever
from planes.serving.retrieval.registry import DocumentRegistry
from planes.serving.retrieval.sentence_evidence import SentenceEvidence
from planes.shared.domain import Candidate, IndexRecipe, SearchScope
from planes.shared.embedding import DIMENSION, MiniLMEmbedder, load_tokenizer
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.index_ports import ChunkStore
from planes.shared.recipe import check_recipe
from planes.shared.stores.chunk_settings import ChunkStoreKind, ChunkStoreSettings, chunk_store
from planes.shared.stores.postgres import Database
from services.cli.eval_vectors import KeptVectors
from services.cli.terminal import console
from services.embedded.postgres import OWNER
from services.embedded.temporary import temporary_postgres

MEANING, WORDS, SUM_OF_SCORES, PRODUCT = "meaning", "words", "sum of scores", "as in answers"
WHOLE = "none"
_DEPTH = 100
_PASSAGES = 50
_SENTENCES_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Run:
    """What ways of searching found for each question: entries, best first, none twice.

    `ms` is the mean time of a question, by way of searching, where it was measured.
    """

    chunks: str
    lists: dict[str, list[list[str]]]
    ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Index:
    """A searchable corpus."""

    scope: SearchScope
    entries: Mapping[UUID, str]
    store: ChunkStore
    retriever: HybridRetriever
    embed: Callable[[Sequence[str]], Vectors]


async def search_in_process(
    judged: Dataset, *, chunker: str, cache: Path | None, store: ChunkStoreKind = "postgres"
) -> Run:
    """Index the corpus, ask every question, and show how far that is.

    Args:
        judged: Corpus and questions.
        chunker: By which entries are split.
        cache: Keeps vectors.
        store: Where the chunks are kept; other than PostgreSQL's, its address is a setting.

    Raises:
        InvalidInput: There is no such chunker, or the store cannot be used.
        Unavailable: The store does not answer.
        RuntimeError: PostgreSQL does not start.
    """
    split = _splitter(chunker)
    with KeptVectors(MiniLMEmbedder(threads=available_processors()), cache) as kept:
        async with _indexed(judged.corpus, split, kept.embed, store) as index:
            with _progress() as bar:
                return await _ask(judged, index, bar, chunks=chunker)


async def _ask(judged: Dataset, index: _Index, bar: Progress, *, chunks: str) -> Run:
    lists: dict[str, list[list[str]]] = {}
    times: list[float] = []
    for question in bar.track(judged.questions, description="Asking"):
        vector = index.embed([question.text])[0]
        arms = await index.store.search(question.text, vector, scope=index.scope, depth=_DEPTH)
        began = time.perf_counter()
        found = await index.retriever.retrieve(question.text, scope=index.scope, k=_PASSAGES)
        times.append(1000 * (time.perf_counter() - began))
        ways = {
            MEANING: _by(arms.candidates, lambda candidate: candidate.dense),
            WORDS: _by(arms.candidates, lambda candidate: candidate.lexical),
            SUM_OF_SCORES: [item.candidate.document_id for item in fuse(arms.candidates)],
            PRODUCT: [passage.chunk.document_id for passage in found.passages],
        }
        for way, documents in ways.items():
            entries = list(dict.fromkeys(index.entries[document] for document in documents))
            lists.setdefault(way, []).append(entries)
    return Run(f"chunker {chunks}", lists, {PRODUCT: fmean(times)})


def _by(candidates: Sequence[Candidate], score: Callable[[Candidate], float | None]) -> list[UUID]:
    """Return the documents of the candidates that one arm scores, best first."""
    scored = [(value, c) for c in candidates if (value := score(c)) is not None]
    ranked = sorted(scored, key=lambda pair: (-pair[0], pair[1].id))
    return [candidate.document_id for _, candidate in ranked]


def _splitter(chunker: str) -> Callable[[Entry], list[TextChunk]]:
    if chunker == WHOLE:
        return whole
    recipe = IndexRecipe(MODEL_NAME, chunker)
    check_recipe(recipe)
    return split_by(Chunker(load_tokenizer(), max_tokens=recipe.max_tokens))


@asynccontextmanager
async def _indexed(
    corpus: Sequence[Entry],
    split: Callable[[Entry], list[TextChunk]],
    embed: Callable[[Sequence[str]], Vectors],
    kind: ChunkStoreKind,
) -> AsyncIterator[_Index]:
    async with temporary_postgres() as urls:
        owner, data, serving = (
            Database(urls[role], service="eval", max_connections=2)
            for role in (OWNER, "polyplane_data", "polyplane_serving")
        )
        try:
            for database in (owner, data, serving):
                await database.open()
            async with _store(kind, data) as store:
                writer = CorpusWriter(CorpusTools(embed, owner, data, store), split)
                tenant_id, entries = await writer.add_tenant(), dict[UUID, str]()
                with _progress() as bar:
                    task = bar.add_task("Indexing", total=len(corpus))
                    async for some in writer.write(tenant_id, corpus):
                        entries |= some
                        bar.update(task, completed=len(entries))
                scope = SearchScope(tenant_id=tenant_id, generation=1)
                embed_later = _asynchronous(embed)
                sentences = SentenceVectors(lambda _: embed_later, max_bytes=_SENTENCES_BYTES)
                retriever = HybridRetriever(
                    store,
                    DocumentRegistry(serving),
                    embed_later,
                    SentenceEvidence(lambda tenant: sentences.of(tenant, MODEL_NAME)),
                )
                yield _Index(scope, entries, store, retriever, embed)
        finally:
            for database in (owner, data, serving):
                await database.close()


@asynccontextmanager
async def _store(kind: ChunkStoreKind, database: Database) -> AsyncIterator[ChunkStore]:
    """Open a store under a name of its own, and leave no chunk there in the end."""
    name = f"eval_{uuid4().hex}"
    own = {"qdrant_prefix": f"{name}_", "mongo_database": name}
    store = chunk_store(ChunkStoreSettings.read().model_copy(update=own), database, kind)
    await store.open()
    try:
        if kind == "postgres":  # which is temporary, and has it
            yield store
            return
        await store.create_generation(1, DIMENSION)
        try:
            yield store
        finally:
            await store.drop_generation(1)
    finally:
        await store.close()


def _asynchronous(embed: Callable[[Sequence[str]], Vectors]) -> Embed:
    async def embedded(texts: Sequence[str]) -> Vectors:
        return embed(texts)

    return embedded


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )
