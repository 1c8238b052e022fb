"""The serving plane's settings, from the environment."""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from planes.shared.domain import ChatMode
from planes.shared.settings import AbsolutePath, EmbeddingPrecision, LogLevel
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from planes.shared.stores.redis_address import RedisSettings

_BATCHES = 4  # one is written, three wait
_GPU_ANSWERS = 64
QwenPrecision = Literal["auto", "f32", "bf16", "int8"]


class FallbackProvider(BaseModel):
    """A further OpenAI-compatible server, asked when the ones before it do not answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    base_url: str = ""
    model: str = ""
    api_key: SecretStr | None = None
    extra_body: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.base_url and self.model):
            raise ValueError("each needs base_url and model; api_key and extra_body are optional")
        return self


class ServingSettings(ChunkStoreSettings, RedisSettings):
    """Everything that an operator may set; the documentation lists each with its default."""

    model_config = SettingsConfigDict(env_prefix="SERVING_")

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    token_secret: SecretStr
    host: str = "127.0.0.1"
    port: int = 8100
    log_level: LogLevel = "INFO"
    database_connections: int = Field(default=8, ge=2)
    otlp_endpoint: str | None = Field(None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT")
    embedder_threads: int = Field(default=1, ge=1)
    embedding_precision: EmbeddingPrecision = Field("auto", validation_alias="EMBEDDING_PRECISION")
    embedding_models_dir: AbsolutePath | None = Field(
        default=None, validation_alias="EMBEDDING_MODELS_DIR"
    )

    reranker: str = Field(default="sentences", min_length=1)
    reranker_deadline_s: float = Field(default=5.0, gt=0)

    generator: Literal["auto", "qwen", "openai", "extractive"] = "auto"
    openai_base_url: str | None = None
    openai_api_key: SecretStr | None = None
    openai_model: str | None = None
    openai_extra_body: dict[str, Any] = Field(default_factory=dict)
    openai_fallbacks: tuple[FallbackProvider, ...] = ()
    openai_first_token_s: float = Field(default=45.0, gt=0)
    openai_between_tokens_s: float = Field(default=20.0, gt=0)
    qwen_model: str = "Qwen/Qwen3-1.7B"
    agent_tools: bool = True
    qwen_precision: QwenPrecision = "auto"
    qwen_batch_size: int = Field(default=4, ge=1, le=64)
    qwen_threads: int | None = Field(default=None, ge=1)
    qwen_gpus: int = Field(default=0, ge=0)
    qwen_max_answers: int | None = Field(default=None, ge=1)
    models_dir: AbsolutePath | None = None

    max_answers: int = Field(default=500, ge=1)
    drain_s: float = Field(default=10.0, ge=0, le=25)
    ingress_replicas: int = Field(default=1, ge=1)
    embedder_replicas: int = Field(default=1, ge=1)
    qwen_replicas: int = Field(default=1, ge=1)
    cache_answers: Literal["off", "rag", "all"] = "rag"
    cache_ttl_s: int = Field(default=3600, ge=1, le=7 * 24 * 3600)
    cache_redis_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    cache_embeddings_bytes: int = Field(default=32 * 1024 * 1024, ge=0)
    cache_sentences_bytes: int = Field(default=64 * 1024 * 1024, ge=0)

    ray_dir: AbsolutePath | None = None
    object_store_bytes: int = Field(default=80 * 1024 * 1024, ge=76 * 1024 * 1024)
    haproxy_stats_port: int = 8404
    haproxy_metrics_port: int = 9101

    @property
    def qwen_answers(self) -> int:
        """Answers that a replica of the model takes, those included that wait for their batch."""
        size = _GPU_ANSWERS if self.qwen_gpus else self.qwen_batch_size
        return self.qwen_max_answers or _BATCHES * size

    @property
    def cached_modes(self) -> frozenset[ChatMode]:
        """The modes whose answers are told again."""
        modes = {"off": (), "rag": (ChatMode.RAG,), "all": tuple(ChatMode)}
        return frozenset(modes[self.cache_answers])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.openai_base_url and not self.openai_model:
            raise ValueError("SERVING_OPENAI_BASE_URL needs SERVING_OPENAI_MODEL, a model's name")
        if self.generator == "openai" and not self.openai_base_url:
            raise ValueError("SERVING_GENERATOR=openai needs SERVING_OPENAI_BASE_URL")
        for name in ("model", "api_key", "extra_body", "fallbacks"):
            if getattr(self, f"openai_{name}") and not self.openai_base_url:
                raise ValueError(f"SERVING_OPENAI_{name.upper()} needs SERVING_OPENAI_BASE_URL")
        return self
