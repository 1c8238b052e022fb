"""What each part of the embedded platform is told."""

from pathlib import Path

import pytest

from services.embedded.home import SECRETS, Home
from services.embedded.installation import Installation
from services.embedded.parts import Part
from services.embedded.platform import platform_parts
from services.embedded.processes import INSTANCE_VARIABLE, PART_VARIABLE
from services.embedded.settings import EmbeddedSettings

_MAY_KNOW = {
    "postgres": set(),
    "redis": set(),
    "migrations": set(),
    "gateway": {"polyplane_gateway", "redis", "serving_token_secret", "gateway_refresh_secret"},
    "serving": {"polyplane_serving", "serving_token_secret"},
    "dagster-code": {"polyplane_data", "polyplane_dagster"},
    "dagster-web": {"polyplane_dagster"},
    "dagster-ui": {"polyplane_dagster"},
    "dagster-daemon": {"polyplane_dagster"},
}


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Part]:
    installation = Installation(
        home=Home(tmp_path),
        ports=EmbeddedSettings().ports(),
        secrets={name: f"<{name}>" for name in SECRETS},
        environment={
            "PATH": "/bin",
            "GATEWAY_CORS_ORIGINS": "https://example.com",
            "SERVING_OPENAI_API_KEY": "key",
            "UNRELATED_SECRET": "private",
        },
        host="127.0.0.1",
        tls=False,
    )
    return {part.name: part for part in platform_parts(installation)}


def test_each_part_gets_its_own_secrets_alone(parts: dict[str, Part]) -> None:
    for name, part in parts.items():
        values = " ".join(part.environment.values())
        known = {secret for secret in SECRETS if f"<{secret}>" in values}
        assert known == _MAY_KNOW[name], name


def test_no_secret_stands_on_a_command_line(parts: dict[str, Part]) -> None:
    assert not any("<" in word for part in parts.values() for word in part.command)


def test_the_operators_settings_reach_the_part_they_are_meant_for(parts: dict[str, Part]) -> None:
    assert parts["gateway"].environment["GATEWAY_CORS_ORIGINS"] == "https://example.com"
    assert parts["serving"].environment["SERVING_OPENAI_API_KEY"] == "key"
    assert "SERVING_OPENAI_API_KEY" not in parts["gateway"].environment
    assert not any("UNRELATED_SECRET" in part.environment for part in parts.values())


def test_every_process_can_be_found_again(parts: dict[str, Part], tmp_path: Path) -> None:
    for name, part in parts.items():
        assert part.environment[INSTANCE_VARIABLE] == Home(tmp_path).instance
        assert part.environment[PART_VARIABLE] == name


def test_parts_need_only_parts_before_them(parts: dict[str, Part]) -> None:
    names = list(parts)
    for position, name in enumerate(names):
        assert set(parts[name].needs) <= set(names[:position])
