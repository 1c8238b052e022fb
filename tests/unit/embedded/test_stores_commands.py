"""The commands that move stores say what they lack."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.main import app


@pytest.mark.parametrize(
    "command",
    [
        ["list"],
        ["copy", "--from", "postgres", "--to", "mongo"],
        ["verify", "2"],
        ["switch", "2"],
        ["rollback"],
        ["copy-messages", "--to", "cql"],
        ["switch-messages"],
        ["finish-messages"],
    ],
)
def test_the_commands_need_a_running_platform(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYPLANE_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, ["stores", *command])
    assert result.exit_code == 3
