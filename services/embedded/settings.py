"""Settings of the embedded platform, from the environment of `polyplane up`."""

from typing import Annotated

from pydantic import Field

from planes.shared.settings import AbsolutePath, SharedSettings
from services.embedded.servers import Mode

_OF_OWN_SERVERS = ("postgres_port", "redis_port")
Port = Annotated[int, Field(ge=0, le=65535)]


class EmbeddedSettings(SharedSettings):
    """What an operator may set; a port of 0 means any free one."""

    mode: Mode = Field(default="embedded", validation_alias="POLYPLANE_MODE")
    host: str = Field(default="127.0.0.1", validation_alias="GATEWAY_HOST")
    tls_certificate: AbsolutePath | None = Field(
        default=None, validation_alias="GATEWAY_TLS_CERTIFICATE"
    )
    gateways: int = Field(default=1, ge=1, le=16, validation_alias="POLYPLANE_GATEWAYS")
    gateway_shutdown_s: float = Field(
        default=20.0, gt=0, le=50, validation_alias="GATEWAY_SHUTDOWN_S"
    )
    tls_key: AbsolutePath | None = Field(default=None, validation_alias="GATEWAY_TLS_KEY")
    strict_ports: bool = Field(default=False, validation_alias="POLYPLANE_STRICT_PORTS")
    gateway_port: Port = Field(default=8000, validation_alias="GATEWAY_PORT")
    admin_port: Port = Field(default=8001, validation_alias="GATEWAY_ADMIN_PORT")
    serving_port: Port = Field(default=8100, validation_alias="SERVING_PORT")
    # People's read-only webserver, and the gateway's.
    dagster_ui_port: Port = Field(default=3000, validation_alias="POLYPLANE_DAGSTER_UI_PORT")
    dagster_port: Port = Field(default=3001, validation_alias="POLYPLANE_DAGSTER_PORT")
    dagster_code_port: Port = Field(default=4266, validation_alias="DATA_CODE_PORT")
    postgres_port: Port = Field(default=5433, validation_alias="POLYPLANE_POSTGRES_PORT")
    redis_port: Port = Field(default=6380, validation_alias="POLYPLANE_REDIS_PORT")
    serving_stats_port: Port = Field(default=8404, validation_alias="SERVING_HAPROXY_STATS_PORT")
    serving_metrics_port: Port = Field(
        default=9101, validation_alias="SERVING_HAPROXY_METRICS_PORT"
    )

    def ports(self) -> dict[str, int]:
        """Return the wanted ports by purpose; each further gateway has an admin port of its own."""
        further = {
            f"admin_{number}": self.admin_port and self.admin_port + number - 1
            for number in range(2, self.gateways + 1)
        }
        named = {
            name.removesuffix("_port"): port
            for name, port in self.model_dump().items()
            if name.endswith("_port") and not (self.mode == "server" and name in _OF_OWN_SERVERS)
        }
        return named | further
