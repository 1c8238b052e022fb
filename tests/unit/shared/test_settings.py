"""Settings come from the environment or from the files that it names, and say what is wrong."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from planes.shared.settings import SettingsWrong
from services.gateway.settings import GatewaySettings

_GOOD = {
    "DATABASE_URL": "postgresql://user:a-password@127.0.0.1/polyplane",
    "REDIS_URL": "redis://127.0.0.1",
    "OBJECTS_DIR": "objects",
    "SERVING_TOKEN_SECRET": "s" * 32,
    "GATEWAY_REFRESH_SECRET": "r" * 32,
    "GATEWAY_KEYS_DIR": "keys",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _GOOD.items():
        monkeypatch.setenv(name, value)


def test_a_secret_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a file, 32 characters or more\n")
    monkeypatch.delenv("GATEWAY_REFRESH_SECRET")
    monkeypatch.setenv("GATEWAY_REFRESH_SECRET_FILE", str(secret))
    assert GatewaySettings.read().refresh_secret == SecretStr("from a file, 32 characters or more")


def test_origins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_CORS_ORIGINS", "https://a.example, https://b.example")
    assert GatewaySettings.read().cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GATEWAY_MAX_FILE_BYTES", "-5"),
        ("GATEWAY_PORT", "abc"),
        ("GATEWAY_TLS_CERTIFICATE", "cert.pem"),
        ("GATEWAY_CORS_ORIGINS", "*"),
    ],
)
def test_a_wrong_setting_is_named_and_no_secret_is(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as refusal:
        GatewaySettings.read()
    assert variable in str(refusal.value)
    assert "a-password" not in str(refusal.value)


def test_a_missing_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL")
    with pytest.raises(SystemExit, match="DATABASE_URL"):
        GatewaySettings.read()


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("GATEWAY_LOG_LEVEL", "LOUD", "'DEBUG'"),
        ("GATEWAY_STRIPE_PRICES", "pro=price_1", "dictionary"),
        ("GATEWAY_REFRESH_SECRET_FILE", "/nowhere/secret", "No such file"),
    ],
)
def test_a_wrong_setting_says_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    if variable.endswith("_FILE"):
        monkeypatch.delenv(variable.removesuffix("_FILE"))
    monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as refusal:
        GatewaySettings.read()
    assert f"{variable}: " in str(refusal.value)
    assert allowed in str(refusal.value)


def test_the_settings_of_another_process_come_from_its_environment_alone() -> None:
    given = {**_GOOD, "GATEWAY_PORT": "8123"}
    assert GatewaySettings.of(given).port == 8123
    with pytest.raises(SettingsWrong, match="DATABASE_URL"):
        GatewaySettings.of({})
