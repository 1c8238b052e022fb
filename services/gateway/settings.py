"""The gateway's settings, from the environment."""

from typing import Annotated, Self

from pydantic import Field, IPvAnyNetwork, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from planes.shared.settings import AbsolutePath, LogLevel
from planes.shared.stores.chat_log_settings import ChatLogSettings
from planes.shared.stores.object_settings import ObjectStoreSettings
from planes.shared.stores.redis_address import RedisSettings
from services.gateway.auth.oidc_settings import OidcSettings


class GatewaySettings(OidcSettings, ObjectStoreSettings, ChatLogSettings, RedisSettings):
    """Everything that an operator may set; the documentation lists each with its default."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_")

    database_url: SecretStr = Field(validation_alias="DATABASE_URL")
    redis_url: SecretStr = Field(validation_alias="REDIS_URL")
    redis_username: str | None = Field(None, validation_alias="REDIS_USERNAME")
    redis_password: SecretStr | None = Field(None, validation_alias="REDIS_PASSWORD")
    serving_token_secret: SecretStr = Field(validation_alias="SERVING_TOKEN_SECRET")
    refresh_secret: SecretStr
    keys_dir: AbsolutePath
    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 8001
    share_port: bool = False
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    outbound_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    drain_s: float = Field(default=5.0, ge=0, le=60)
    shutdown_s: float = Field(default=20.0, gt=0, le=600)
    key_publish_s: float = Field(default=60.0, ge=2, le=3600)
    serving_url: str = "http://127.0.0.1:8100"
    dagster_url: str = "http://127.0.0.1:3001"
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    tls_certificate: AbsolutePath | None = None
    tls_key: AbsolutePath | None = None
    log_level: LogLevel = "INFO"
    database_connections: int = Field(default=10, ge=2)
    database_deadline_s: float = Field(default=4.0, ge=1)
    database_replica_url: SecretStr | None = Field(None, validation_alias="DATABASE_REPLICA_URL")
    database_replica_max_lag_s: float = Field(default=5.0, ge=1, le=300)

    max_file_bytes: int = Field(default=50 * 1024 * 1024, ge=1)
    max_batch_bytes: int = Field(default=1024 * 1024 * 1024, ge=1)
    max_batch_files: int = Field(default=1000, ge=1, le=10_000)
    url_uploads: bool = True
    max_body_bytes: int = Field(default=1024 * 1024, ge=1024)
    max_connections: int = Field(default=4096, ge=8)
    head_s: int = Field(default=20, ge=1, le=600)
    body_idle_s: float = Field(default=30.0, gt=0, le=600)
    max_prompt_tokens: int = Field(default=4096, ge=256)
    default_max_tokens: int = Field(default=512, ge=1)
    registrations_per_minute: int = Field(default=30, ge=1)
    history_messages: int = Field(default=10, ge=0, le=100)
    max_answers: int = Field(default=500, ge=1)
    unlisted_days: int = Field(default=30, ge=1, le=3650)
    max_job_streams: int = Field(default=500, ge=0)
    answer_header_s: float = Field(default=1.0, gt=0)
    answer_first_token_s: float = Field(default=60.0, gt=0)
    answer_idle_s: float = Field(default=60.0, gt=0)
    chat_resume_grace_s: float = Field(default=10.0, ge=0, le=300)
    stream_heartbeat_s: float = Field(default=15.0, gt=0, le=300)

    public_url: str | None = Field(default=None, pattern=r"^https?://[^/\s]")
    stripe_secret_key: SecretStr | None = None
    stripe_webhook_secret: SecretStr | None = None
    stripe_prices: dict[str, str] = Field(default_factory=dict)
    stripe_api_url: str = "https://api.stripe.com"

    @field_validator("cors_origins", "trusted_proxies", "outbound_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("GATEWAY_TLS_CERTIFICATE and GATEWAY_TLS_KEY go together")
        if self.drain_s >= self.shutdown_s:
            raise ValueError("GATEWAY_DRAIN_S must be less than GATEWAY_SHUTDOWN_S")
        if "*" in self.cors_origins:
            raise ValueError("GATEWAY_CORS_ORIGINS names origins; '*' would open every account")
        return self

    @model_validator(mode="after")
    def _check_payments(self) -> Self:
        given = {
            "GATEWAY_STRIPE_SECRET_KEY": self.stripe_secret_key,
            "GATEWAY_STRIPE_WEBHOOK_SECRET": self.stripe_webhook_secret,
            "GATEWAY_STRIPE_PRICES": self.stripe_prices,
        }
        if any(given.values()):
            needed = {**given, "GATEWAY_PUBLIC_URL": self.public_url}
            missing = [name for name, value in needed.items() if not value]
            if missing:
                raise ValueError(f"Stripe needs {', '.join(missing)} too, or none of its settings")
        if len(set(self.stripe_prices.values())) < len(self.stripe_prices):
            raise ValueError("GATEWAY_STRIPE_PRICES names a price twice: a price is of one plan")
        return self
