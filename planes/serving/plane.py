"""What one ingress replica holds: the database, the retriever, the generator and the agent."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

import httpx

from planes.serving.admission import Admission
from planes.serving.agent.catalog import DocumentCatalog
from planes.serving.agent.graph import Agent, build_graph
from planes.serving.agent.state import AgentTools
from planes.serving.agent.tools import Toolbox
from planes.serving.caches.answers import AnswerCache, CachedAgent
from planes.serving.caches.citations import CitationCheck
from planes.serving.caches.embeddings import EmbeddingCache
from planes.serving.caches.keys import CacheKeys, recipe_of
from planes.serving.caches.passages import CachedRetriever
from planes.serving.caches.sentences import SentenceVectors
from planes.serving.caches.shared import SharedCache
from planes.serving.embedding import TextEmbedding
from planes.serving.generation.choose import Choice, choose
from planes.serving.generation.extractive import NO_LANGUAGE_MODEL, ExtractiveGenerator
from planes.serving.generation.model_server import ModelServerProbe
from planes.serving.generation.openai import Deadlines, OpenAIGenerator
from planes.serving.generation.providers import FallbackChain, Provider
from planes.serving.generation.tokens import TokenCounter
from planes.serving.retrieval.choose_reranker import build_reranker
from planes.serving.retrieval.hybrid import Embed, EmbedBy, HybridRetriever
from planes.serving.retrieval.neighbours import Neighbours
from planes.serving.retrieval.registry import DocumentRegistry
from planes.serving.settings import FallbackProvider, ServingSettings
from planes.serving.tracing import Tracing
from planes.shared.domain import ChatMode
from planes.shared.embedding import load_tokenizer
from planes.shared.embedding_models import MODEL_NAME
from planes.shared.errors import NoLanguageModel, PlatformError, ToolsUnsupported
from planes.shared.index_ports import ChunkStore
from planes.shared.ports import Generator
from planes.shared.stores.chunk_settings import chunk_stores
from planes.shared.stores.postgres import SCHEMA_REVISION, Database
from planes.shared.stores.redis_caches import RedisCaches
from planes.shared.stores.redis_clients import redis_client
from planes.shared.wire import WIRE_VERSION, AnswerRequest, ServingHealth, ServingTokens

_PROBE_S = 2.0
_CACHE_WAIT_S = 2.0


@dataclass(slots=True)
class Plane:
    """The parts that requests use; `open` connects, `close` lets go."""

    tokens: ServingTokens
    database: Database
    chunks: ChunkStore
    providers: tuple[Provider, ...]
    embed: Embed
    texts: TextEmbedding
    retriever: CachedRetriever
    agent: CachedAgent
    cache: SharedCache
    choice: Choice
    admission: Admission
    tracing: Tracing
    ask_generator: Callable[[], Awaitable[None]] | None
    """None where answers are written without a model, which needs the embedder alone."""

    async def open(self) -> None:
        """Connect to the database and check that its schema is the one that this code needs.

        Raises:
            SchemaMismatch: It is another one.
            Unavailable: The database does not answer.
        """
        await self.database.open()
        await self.database.check_schema(SCHEMA_REVISION)
        await self.chunks.open()
        self.tracing.open()

    async def drain(self, within_s: float) -> None:
        """Take no more questions; return once the answers under way have ended."""
        await self.admission.drain(within_s)
        await self.tracing.flush()

    async def close(self) -> None:
        """Close all connections."""
        for provider in self.providers:
            await provider.client.aclose()
        await self.cache.close()
        await self.chunks.close()
        await self.database.close()
        await self.tracing.close()

    def check(self, request: AnswerRequest) -> None:
        """Refuse what cannot be answered, before the first byte.

        Raises:
            NoLanguageModel: Open chat without a language model.
            ToolsUnsupported: Tools of the caller without a language model.
        """
        if self.choice.status.kind != "extractive":
            return
        if request.mode is ChatMode.OPEN:
            raise NoLanguageModel(NO_LANGUAGE_MODEL)
        if request.client_tools is not None or request.rounds:
            raise ToolsUnsupported

    async def health(self) -> ServingHealth:
        """Ask each part, for at most two seconds.

        Without its model's generator the plane is `degraded`: search works.
        """
        database, chunks, embedder, model = await asyncio.gather(
            _state(self._ask_database),
            _state(self._ask_chunks),
            _state(self._ask_embedder),
            _state(self.ask_generator or _nobody),
        )
        generator = embedder if self.ask_generator is None else model
        is_searching = database == chunks == embedder == "ok"
        with_search: Literal["ok", "degraded"] = "ok" if generator == "ok" else "degraded"
        return ServingHealth(
            wire=WIRE_VERSION,
            status=with_search if is_searching else "unavailable",
            generator=self.choice.status,
            embedding_model=self.texts.model,
            parts={
                "database": database,
                "chunks": chunks,
                "embedder": embedder,
                "generator": generator,
            },
        )

    async def _ask_database(self) -> None:
        async with self.database.platform() as connection:
            await connection.fetchval("SELECT 1")

    async def _ask_chunks(self) -> None:
        await self.chunks.describe()

    async def _ask_embedder(self) -> None:
        await self.embed(["health"])


@dataclass(frozen=True, slots=True)
class _Embedding:
    """Vectors by the default model, which the extractive generator compares."""

    embeddings: EmbeddingCache
    sentences: SentenceVectors

    def question(self, tenant_id: UUID) -> Embed:
        """Return what embeds a tenant's questions; its search has mostly asked before."""
        return self.embeddings.of(tenant_id, MODEL_NAME, is_counted=False)

    def sentence(self, tenant_id: UUID) -> Embed:
        """Return what embeds the sentences of a tenant's passages."""
        return self.sentences.of(tenant_id, MODEL_NAME)


@dataclass(frozen=True, slots=True)
class _Stores:
    registry: Database
    chunks: ChunkStore


class RemoteModel(Generator, Protocol):
    """A generator in another process."""

    async def check(self) -> None:
        """Return where it answers.

        Raises:
            Unavailable: It does not.
        """


async def _nobody() -> None:
    """Ask nobody."""


async def _state(ask: Callable[[], Awaitable[None]]) -> str:
    try:
        async with asyncio.timeout(_PROBE_S):
            await ask()
    except (PlatformError, TimeoutError):
        return "unavailable"
    return "ok"


def build_plane(
    settings: ServingSettings, embed_by: EmbedBy, *, language_model: RemoteModel | None = None
) -> Plane:
    """Wire the parts of one replica; nothing is connected yet.

    Args:
        settings: From the environment.
        embed_by: The embedder deployment.
        language_model: The generator deployment, where the choice is `qwen`.
    """
    choice = choose(settings)
    database = Database(
        settings.database_url.get_secret_value(),
        service="polyplane-serving",
        max_connections=settings.database_connections,
    )
    cache, keys = (
        _shared_cache(settings),
        CacheKeys(settings.token_secret.get_secret_value(), recipe_of(settings)),
    )
    chunks, registry = chunk_stores(settings, database), DocumentRegistry(database)
    embeddings = EmbeddingCache(embed_by, max_bytes=settings.cache_embeddings_bytes)

    sentences = SentenceVectors(embed_by, max_bytes=settings.cache_sentences_bytes)

    embed = embed_by(MODEL_NAME)
    reranker_by = build_reranker(settings, sentences.of)

    async def retriever_of(tenant_id: UUID, generation: int) -> HybridRetriever:
        model = await registry.embedder_of(generation)
        embed_once, reranker = embeddings.of(tenant_id, model), reranker_by(model)
        return HybridRetriever(
            chunks,
            registry,
            embed_once,
            reranker,
            reranker_deadline_s=settings.reranker_deadline_s,
        )

    retriever = CachedRetriever(retriever_of, registry, cache, keys)
    answers = AnswerCache(cache, keys, CitationCheck(database, chunks), settings.cached_modes)
    providers = _providers(settings)
    generator = language_model or _generator(
        settings, choice, providers, _Embedding(embeddings, sentences)
    )
    tools = _agent_tools(settings, choice, _Stores(database, chunks), retriever, generator)
    return Plane(
        tokens=ServingTokens(settings.token_secret.get_secret_value()),
        database=database,
        chunks=chunks,
        providers=providers,
        embed=embed,
        texts=TextEmbedding(embed, load_tokenizer()),
        retriever=retriever,
        agent=CachedAgent(Agent(build_graph(), tools), answers),
        cache=cache,
        choice=choice,
        admission=Admission(_most_answers(settings, choice)),
        tracing=Tracing(settings.otlp_endpoint),
        ask_generator=_generator_check(choice, providers, language_model),
    )


def _most_answers(settings: ServingSettings, choice: Choice) -> int:
    """Return how many answers may be under way: as many as their generator takes."""
    if choice.status.kind != "qwen":
        return settings.max_answers
    return min(settings.max_answers, settings.qwen_answers * settings.qwen_replicas)


def _agent_tools(
    settings: ServingSettings,
    choice: Choice,
    stores: _Stores,
    retriever: CachedRetriever,
    generator: Generator,
) -> AgentTools:
    is_language_model = choice.status.kind != "extractive"
    has_tools = is_language_model and settings.agent_tools
    catalog = DocumentCatalog(stores.registry, stores.chunks)
    toolbox = Toolbox(retriever, catalog) if has_tools else None
    neighbours = Neighbours(stores.chunks) if is_language_model else None
    return AgentTools(retriever, generator, toolbox, is_language_model, neighbours)


def _shared_cache(settings: ServingSettings) -> SharedCache:
    url, caches = settings.redis_url, None
    if url is not None and settings.cache_redis_bytes:
        client = redis_client(
            url.get_secret_value(), settings.redis_login, max_connections=32, wait_s=_CACHE_WAIT_S
        )
        caches = RedisCaches(client)
    return SharedCache(caches, ttl_s=settings.cache_ttl_s, max_bytes=settings.cache_redis_bytes)


def _generator_check(
    choice: Choice, providers: tuple[Provider, ...], language_model: RemoteModel | None
) -> Callable[[], Awaitable[None]] | None:
    if language_model is not None:
        return language_model.check
    if choice.status.kind == "openai":
        return ModelServerProbe([provider.client for provider in providers]).check
    return None


def _generator(
    settings: ServingSettings,
    choice: Choice,
    providers: tuple[Provider, ...],
    embedding: _Embedding,
) -> Generator:
    tokens = TokenCounter(load_tokenizer())
    if choice.status.kind == "openai":
        deadlines = Deadlines(
            first_token_s=settings.openai_first_token_s,
            between_tokens_s=settings.openai_between_tokens_s,
        )
        return OpenAIGenerator(FallbackChain(providers), tokens, deadlines=deadlines)
    return ExtractiveGenerator(embedding.question, embedding.sentence, tokens)


def _providers(settings: ServingSettings) -> tuple[Provider, ...]:
    """Return the configured one and its fallbacks; none where no address is set."""
    if not settings.openai_base_url:
        return ()
    first = FallbackProvider(
        base_url=settings.openai_base_url,
        model=settings.openai_model or "",
        api_key=settings.openai_api_key,
        extra_body=settings.openai_extra_body,
    )
    return tuple(
        Provider(_model_client(each), each.model, each.extra_body)
        for each in (first, *settings.openai_fallbacks)
    )


def _model_client(provider: FallbackProvider) -> httpx.AsyncClient:
    key = provider.api_key
    headers = {"authorization": f"Bearer {key.get_secret_value()}"} if key else {}
    unbounded = httpx.Limits(max_connections=None)  # answers are bounded where they are admitted
    return httpx.AsyncClient(base_url=provider.base_url, headers=headers, limits=unbounded)
