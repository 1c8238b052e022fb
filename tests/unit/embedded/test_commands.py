"""The commands where nothing runs."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app

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


def test_reset_asks_first(home: Path) -> None:
    (home / "objects").mkdir(parents=True)
    assert CliRunner().invoke(app, ["reset"], input="n\n").exit_code == 1
    assert home.exists()
    assert CliRunner().invoke(app, ["reset", "--yes"]).exit_code == 0
    assert not home.exists()
