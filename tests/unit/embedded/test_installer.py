"""What the installer never does."""

import os
import subprocess
import sys
from pathlib import Path

_INSTALLER = Path(__file__).parents[3] / "infra" / "locks" / "install.py"


def test_an_environment_of_others_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    answer = subprocess.run(
        [sys.executable, str(_INSTALLER)],
        env={**os.environ, "POLYPLANE_VENV": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert answer.returncode == 1
    assert "was not made by this program" in answer.stderr
    assert (tmp_path / "bin" / "python").exists()
