"""The data plane's settings, from the environment."""

import os
from typing import Annotated, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from planes.data.pipeline.parse import ParseLimits
from planes.shared.settings import AbsolutePath, EmbeddingPrecision, LogLevel, SharedSettings
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from planes.shared.stores.object_settings import ObjectStoreSettings
from planes.shared.stores.redis_address import RedisSettings


def available_processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is no time zone of the IANA database") from error
    return name


class ScheduleSettings(SharedSettings):
    """What the data plane does by itself, and when. Everything is off unless it is set."""

    model_config = SettingsConfigDict(env_prefix="DATA_")

    watch_sources: bool = False
    daily_ingestion: bool = False
    weekly_reembedding_check: bool = False
    hourly_quality_checks: bool = False
    timezone: Annotated[str, AfterValidator(_time_zone)] = "UTC"


class DataSettings(ScheduleSettings, ObjectStoreSettings, ChunkStoreSettings, RedisSettings):
    """Everything that an operator may set; the documentation lists each with its default."""

    model_config = SettingsConfigDict(env_prefix="DATA_")  # the last base's would hold

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    log_level: LogLevel = "INFO"
    database_connections: int = Field(default=4, ge=3)

    batch_s: float = Field(default=10.0, gt=0)
    backlog_s: float = Field(default=60.0, gt=0)
    batch_documents: int = Field(default=500, ge=1)
    max_attempts: int = Field(default=5, ge=1)
    nice: int = Field(default=10, ge=0, le=19)
    embedding_threads: int = Field(default_factory=available_processors, ge=1)
    embedding_precision: EmbeddingPrecision = Field("auto", validation_alias="EMBEDDING_PRECISION")
    embedding_models_dir: AbsolutePath | None = Field(
        default=None, validation_alias="EMBEDDING_MODELS_DIR"
    )
    reembedding_s: float = Field(default=60.0, gt=0, le=240)
    embedder: str = "sentence-transformers/all-MiniLM-L6-v2"
    chunker: str = "semchunk-256"

    source_scan_s: float = Field(default=60.0, gt=0, le=600)
    source_file_bytes: int = Field(default=50 << 20, ge=1)
    source_s3_endpoint: str | None = None
    source_s3_region: str = "us-east-1"
    source_s3_access_key_id: SecretStr | None = None
    source_s3_secret_access_key: SecretStr | None = None
    source_s3_allow_http: bool = False

    quality_sample: int = Field(default=200, ge=1, le=10_000)
    drift_psi: float = Field(default=0.25, gt=0)
    drift_documents: int = Field(default=100, ge=1)

    parse_memory_bytes: int = Field(default=512 << 20, ge=64 << 20)
    parse_cpu_s: int = Field(default=30, ge=1)
    parse_wall_s: float = Field(default=30.0, gt=0)
    max_text_chars: int = Field(default=20_000_000, ge=1)

    @property
    def source_s3_is_plain(self) -> bool:
        """Whether the object store of watched sources is reached without TLS."""
        return urlsplit(self.source_s3_endpoint or "").scheme == "http"

    @model_validator(mode="after")
    def _check_source_s3(self) -> Self:
        if (self.source_s3_access_key_id is None) != (self.source_s3_secret_access_key is None):
            raise ValueError(
                "set both DATA_SOURCE_S3_ACCESS_KEY_ID and DATA_SOURCE_S3_SECRET_ACCESS_KEY, or "
                "neither of them"
            )
        endpoint = urlsplit(self.source_s3_endpoint or "https://")
        if endpoint.scheme not in {"http", "https"}:
            raise ValueError("DATA_SOURCE_S3_ENDPOINT begins with https:// or http://")
        if (
            self.source_s3_is_plain
            and not self.source_s3_allow_http
            and endpoint.hostname not in {"127.0.0.1", "localhost", "::1"}
        ):
            raise ValueError(
                "DATA_SOURCE_S3_ENDPOINT is not encrypted: use https://, or set "
                "DATA_SOURCE_S3_ALLOW_HTTP=true where the network is trusted"
            )
        return self

    def parse_limits(self) -> ParseLimits:
        """Return what one file may cost."""
        return ParseLimits(
            memory_bytes=self.parse_memory_bytes,
            cpu_s=self.parse_cpu_s,
            wall_s=self.parse_wall_s,
            text_chars=self.max_text_chars,
        )
