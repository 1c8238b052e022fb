"""The real platform, started once for all end-to-end tests by its own command."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.embedded.home import Home
from services.embedded.logs import log_files, tail
from services.embedded.settings import EmbeddedSettings
from services.embedded.state import PlatformState, read_state
from tests.conftest import free_port

_START_S = 300


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """A platform of its own home and ports, which stay the same when it is started again."""

    home: Path
    environment: dict[str, str] = field(repr=False)

    @property
    def state(self) -> PlatformState:
        """What its supervisor says now."""
        state = read_state(Home(self.home))
        assert state is not None, "the platform does not run"
        return state

    @property
    def base_url(self) -> str:
        """The public API."""
        return f"http://127.0.0.1:{self.environment['GATEWAY_PORT']}"

    @property
    def admin_url(self) -> str:
        """Health details and metrics."""
        return f"http://127.0.0.1:{self.environment['GATEWAY_ADMIN_PORT']}"

    def start_command(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `polyplane ARGUMENTS`."""
        return subprocess.Popen(
            [sys.executable, "-m", "services.cli", *arguments],
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def command(self, *arguments: str) -> str:
        """Run `polyplane ARGUMENTS`, which must succeed; return what it prints."""
        with self.start_command(*arguments) as process:
            output, _ = process.communicate(timeout=_START_S)
        assert process.returncode == 0, f"polyplane {' '.join(arguments)}:\n{output}"
        return output


def new_platform(home: Path) -> RunningPlatform:
    """Return a platform that is not running, with free ports of its own."""
    ports = {
        str(field.validation_alias): str(free_port())
        for name, field in EmbeddedSettings.model_fields.items()
        if name.endswith("_port")
    }
    own = {"POLYPLANE_HOME": str(home), "POLYPLANE_STRICT_PORTS": "1", "NO_COLOR": "1"}
    return RunningPlatform(home, {**os.environ, **ports, **own})


def _print_logs(config: pytest.Config, home: Path) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():  # it is not the last test's own output
        for name, path in log_files(home / "logs").items():
            print(f"\n==== {name} ====", *tail(path, 40), sep="\n")  # noqa: T201 - shown on failure


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest) -> Iterator[RunningPlatform]:
    """The embedded platform, running."""
    with tempfile.TemporaryDirectory(prefix="polyplane-e2e-", ignore_cleanup_errors=True) as folder:
        running = new_platform(Path(folder) / "home")
        try:
            running.command("up")
            yield running
        finally:
            if request.session.testsfailed:
                _print_logs(request.config, running.home)
            running.command("reset", "--yes")
