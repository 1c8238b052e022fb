"""The commands where nothing runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app
from services.embedded.home import Home

_COMMANDS = (
    "up",
    "down",
    "status",
    "logs",
    "doctor",
    "demo",
    "reset",
    "migrate",
    "models",
    "admin",
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POLYPLANE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_help_names_every_command() -> None:
    output = CliRunner().invoke(app, ["--help"]).output
    assert all(command in output for command in _COMMANDS)


@pytest.mark.parametrize("command", _COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    answer = CliRunner().invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert "Usage" in answer.output
    assert "completion" not in answer.output


def test_an_unknown_command_is_refused() -> None:
    assert CliRunner().invoke(app, ["fly"]).exit_code == 2


def test_status_says_that_nothing_runs() -> None:
    answer = CliRunner().invoke(app, ["status"])
    assert answer.exit_code == 3


def test_down_may_be_repeated() -> None:
    assert CliRunner().invoke(app, ["down"]).exit_code == 0


def test_migrate_needs_a_running_database() -> None:
    assert CliRunner().invoke(app, ["migrate"]).exit_code == 3


def test_logs_of_an_unknown_part_are_refused() -> None:
    assert CliRunner().invoke(app, ["logs", "nonsense"]).exit_code == 2


def test_doctor_looks_at_everything_and_makes_nothing(home: Path) -> None:
    answer = CliRunner().invoke(app, ["doctor"])
    for subject in ("Python", "Disk", "Memory", "PostgreSQL", "Redis", "Embedding model", "Ports"):
        assert subject in answer.output
    assert not home.exists()


def test_doctor_says_in_what_arithmetic_the_embedder_computes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBEDDING_PRECISION", "bf16")
    assert "computed in bf16" in " ".join(CliRunner().invoke(app, ["doctor"]).output.split())
    monkeypatch.setenv("EMBEDDING_PRECISION", "int4")
    answer = CliRunner().invoke(app, ["doctor"])
    assert (answer.exit_code, "EMBEDDING_PRECISION" in answer.output) == (1, True)


def test_keys_are_rotated_while_nothing_runs(home: Path) -> None:
    absent = CliRunner().invoke(app, ["admin", "rotate-keys"])
    assert absent.exit_code == 3
    assert "`polyplane up` makes the first one" in absent.output
    Home(home).create()
    for _ in range(2):
        assert CliRunner().invoke(app, ["admin", "rotate-keys"]).exit_code == 0
    assert len(list((home / "keys").glob("*.pem"))) == 2


def test_reset_asks_first(home: Path) -> None:
    Home(home).create()
    assert CliRunner().invoke(app, ["reset"], input="n\n").exit_code == 1
    assert home.exists()
    assert CliRunner().invoke(app, ["reset", "--yes"]).exit_code == 0
    assert not home.exists()


@pytest.mark.parametrize("command", [["reset", "--yes"], ["up"]])
def test_a_folder_of_others_is_left_alone(home: Path, command: list[str]) -> None:
    home.mkdir(mode=0o755)
    (home / "objects").mkdir()
    (home / "letter").write_text("dear", "utf-8")
    answer = CliRunner().invoke(app, command)
    assert answer.exit_code == 1
    assert "not Polyplane's" in answer.output
    assert sorted(path.name for path in home.iterdir()) == ["letter", "objects"]
    assert home.stat().st_mode & 0o777 == 0o755


def test_reset_deletes_the_platforms_files_alone(home: Path) -> None:
    Home(home).create()
    (home / "letter").write_text("dear", "utf-8")
    assert CliRunner().invoke(app, ["reset", "--yes"]).exit_code == 0
    assert [path.name for path in home.iterdir()] == ["letter"]


@pytest.mark.parametrize(
    ("name", "value"), [("GATEWAY_PORT", "many"), ("GATEWAY_HOST", "192.0.2.1")]
)
def test_doctor_explains_a_wrong_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    answer = CliRunner().invoke(app, ["doctor"])
    assert answer.exit_code == 1
    assert name in answer.output


def test_up_names_every_wrong_setting_before_anything_starts(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = {
        "GATEWAY_MAX_ANSWERS": ("0", "greater than or equal to 1"),
        "SERVING_GENERATOR": ("gpt", "'extractive'"),
        "DATA_BATCH_S": ("-1", "greater than 0"),
    }
    for name, (value, _) in wrong.items():
        monkeypatch.setenv(name, value)
    answer = CliRunner().invoke(app, ["up"])
    assert answer.exit_code == 1
    for name, (_, allowed) in wrong.items():
        assert any(name in line and allowed in line for line in answer.output.splitlines())
    assert list((home / "redis").iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("GATEWAY_HOST", "192.0.2.1"), ("SERVING_PORT", "-3")])
def test_up_names_a_setting_that_no_port_can_have(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    answer = CliRunner().invoke(app, ["up"])
    assert answer.exit_code == 1
    assert f"{name}: " in answer.output
