"""The serving plane's settings, from the environment."""

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from planes.shared.domain import ChatMode
from planes.shared.settings import AbsolutePath, EmbeddingPrecision, LogLevel, SharedSettings


class ServingSettings(SharedSettings):
    """Everything that an operator may set; the documentation lists each with its default."""

    model_config = SettingsConfigDict(env_prefix="SERVING_")

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    token_secret: SecretStr
    host: str = "127.0.0.1"
    port: int = 8100
    log_level: LogLevel = "INFO"
    database_connections: int = Field(default=8, ge=2)
    embedder_threads: int = Field(default=1, ge=1)
    embedding_precision: EmbeddingPrecision = Field("auto", validation_alias="EMBEDDING_PRECISION")

    generator: Literal["auto", "qwen", "openai", "extractive"] = "auto"
    openai_base_url: str | None = None
    openai_api_key: SecretStr | None = None
    openai_model: str | None = None
    qwen_model: str = "Qwen/Qwen3-1.7B"
    models_dir: AbsolutePath | None = None

    redis_url: SecretStr | None = None
    cache_answers: Literal["off", "rag", "all"] = "rag"
    cache_ttl_s: int = Field(default=3600, ge=1, le=7 * 24 * 3600)
    cache_redis_bytes: int = Field(default=64 * 1024 * 1024, ge=0)
    cache_embeddings_bytes: int = Field(default=32 * 1024 * 1024, ge=0)

    ray_dir: AbsolutePath | None = None
    object_store_bytes: int = Field(default=80 * 1024 * 1024, ge=76 * 1024 * 1024)
    haproxy_stats_port: int = 8404
    haproxy_metrics_port: int = 9101

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
        return self
