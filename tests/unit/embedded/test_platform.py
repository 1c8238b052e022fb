"""What each part of the embedded platform is told."""

from pathlib import Path

import pytest

from services.embedded.home import SECRETS, Home
from services.embedded.installation import Installation
from services.embedded.parts import Part
from services.embedded.platform import platform_parts
from services.embedded.processes import INSTANCE_VARIABLE, PART_VARIABLE
from services.embedded.settings import EmbeddedSettings
from services.gateway.settings import GatewaySettings

_MAY_KNOW = {
    "postgres": set(),
    "redis": set(),
    "migrations": set(),
    "gateway": {"polyplane_gateway", "redis", "serving_token_secret", "gateway_refresh_secret"},
    "serving": {"polyplane_serving", "serving_token_secret", "redis_serving"},
    "dagster-code": {"polyplane_data", "polyplane_dagster", "redis_data"},
    "dagster-web": {"polyplane_dagster"},
    "dagster-ui": {"polyplane_dagster"},
    "dagster-daemon": {"polyplane_dagster"},
}


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Part]:
    return parts_of(tmp_path, gateways=1)


def parts_of(home: Path, *, gateways: int) -> dict[str, Part]:
    settings = EmbeddedSettings(gateways=gateways)
    installation = Installation(
        home=Home(home),
        ports=settings.ports(),
        secrets={name: f"<{name}>".ljust(32, "x") for name in SECRETS},
        environment={
            "PATH": "/bin",
            "GATEWAY_CORS_ORIGINS": "https://example.com",
            "SERVING_OPENAI_API_KEY": "key",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318",
            "UNRELATED_SECRET": "private",
            "REDIS_URL": "redis://elsewhere/0",
            "REDIS_USERNAME": "somebody",
            "DATABASE_REPLICA_URL": "postgresql://elsewhere/polyplane",
            "OBJECTS_DIR": "/elsewhere",
        },
        host="127.0.0.1",
        tls=False,
        gateway_shutdown_s=settings.gateway_shutdown_s,
    )
    return {part.name: part for part in platform_parts(installation)}


def test_each_part_gets_its_own_secrets_alone(parts: dict[str, Part]) -> None:
    for name, part in parts.items():
        values = " ".join(part.environment.values())
        known = {secret for secret in SECRETS if f"<{secret}>" in values}
        assert known == _MAY_KNOW[name], name


def test_spans_are_the_serving_planes_alone(parts: dict[str, Part]) -> None:
    told = {
        name for name, part in parts.items() if "OTEL_EXPORTER_OTLP_ENDPOINT" in part.environment
    }
    assert told == {"serving"}


def test_no_secret_stands_on_a_command_line(parts: dict[str, Part]) -> None:
    assert not any("<" in word for part in parts.values() for word in part.command)


def test_the_operators_settings_reach_the_part_they_are_meant_for(parts: dict[str, Part]) -> None:
    assert parts["gateway"].environment["GATEWAY_CORS_ORIGINS"] == "https://example.com"
    assert parts["serving"].environment["SERVING_OPENAI_API_KEY"] == "key"
    assert "SERVING_OPENAI_API_KEY" not in parts["gateway"].environment
    assert not any("UNRELATED_SECRET" in part.environment for part in parts.values())


def test_an_embedded_platform_has_its_own_servers_whatever_the_shell_names(
    parts: dict[str, Part],
) -> None:
    gateway = parts["gateway"].environment
    assert gateway["REDIS_URL"].startswith("redis://:<redis>")
    assert {"REDIS_USERNAME", "DATABASE_REPLICA_URL"}.isdisjoint(gateway)
    assert gateway["OBJECTS_DIR"] != "/elsewhere"


def test_every_process_can_be_found_again(parts: dict[str, Part], tmp_path: Path) -> None:
    for name, part in parts.items():
        assert part.environment[INSTANCE_VARIABLE] == Home(tmp_path).instance
        assert part.environment[PART_VARIABLE] == name


def test_parts_need_only_parts_before_them(parts: dict[str, Part]) -> None:
    names = list(parts)
    for position, name in enumerate(names):
        assert set(parts[name].needs) <= set(names[:position])


def test_gateways_share_the_public_port_and_nothing_else(tmp_path: Path) -> None:
    parts = parts_of(tmp_path, gateways=3)
    told = [parts[name].environment for name in ("gateway", "gateway-2", "gateway-3")]
    assert {values["GATEWAY_PORT"] for values in told} == {"8000"}
    assert {values["GATEWAY_SHARE_PORT"] for values in told} == {"true"}
    assert [values["GATEWAY_ADMIN_PORT"] for values in told] == ["8001", "8002", "8003"]
    assert "gateway-4" not in parts


def test_one_gateway_does_not_share_its_port(parts: dict[str, Part]) -> None:
    assert parts["gateway"].environment["GATEWAY_SHARE_PORT"] == "false"


@pytest.mark.parametrize("gateways", [1, 16])
def test_the_gateways_together_leave_connections_to_others(tmp_path: Path, gateways: int) -> None:
    parts = parts_of(tmp_path, gateways=gateways)
    each = int(parts["gateway"].environment["GATEWAY_DATABASE_CONNECTIONS"])
    assert each >= 5
    assert each * gateways <= 100


def test_a_gateway_has_time_to_end(parts: dict[str, Part]) -> None:
    assert parts["gateway"].stop_s > GatewaySettings.model_fields["shutdown_s"].default + 8
