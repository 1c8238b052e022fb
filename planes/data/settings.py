"""The data plane's settings, from the environment."""

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from planes.data.pipeline.parse import ParseLimits
from planes.shared.settings import AbsolutePath, LogLevel, SharedSettings


class DataSettings(SharedSettings):
    """Everything that an operator may set; the documentation lists each with its default."""

    model_config = SettingsConfigDict(env_prefix="DATA_")

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    objects_dir: AbsolutePath = Field(validation_alias="OBJECTS_DIR")
    log_level: LogLevel = "INFO"
    database_connections: int = Field(default=4, ge=2)

    batch_s: float = Field(default=10.0, gt=0)
    batch_documents: int = Field(default=200, ge=1)
    max_attempts: int = Field(default=5, ge=1)
    embedding_threads: int = Field(default=1, ge=1)

    parse_memory_bytes: int = Field(default=512 << 20, ge=64 << 20)
    parse_cpu_s: int = Field(default=30, ge=1)
    parse_wall_s: float = Field(default=30.0, gt=0)
    max_text_chars: int = Field(default=20_000_000, ge=1)

    def parse_limits(self) -> ParseLimits:
        """Return what one file may cost."""
        return ParseLimits(
            memory_bytes=self.parse_memory_bytes,
            cpu_s=self.parse_cpu_s,
            wall_s=self.parse_wall_s,
            text_chars=self.max_text_chars,
        )
