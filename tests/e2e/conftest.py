"""The real platform, started by its own command: embedded, and on stores that are given to it.

A test says by `@pytest.mark.platforms(...)` on which of `PLATFORMS` it runs; without, on the
embedded one. Each is started once for all of its tests, and they run one after the other.
`E2E_PLATFORMS=exact,search` chooses some of them.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from services.embedded.home import Home
from services.embedded.installation import running_installation
from services.embedded.logs import log_files, tail
from services.embedded.ports import free_port, is_free
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.settings import EmbeddedSettings
from services.embedded.state import PlatformState, read_state
from tests.e2e import stores
from tests.e2e.stores import GivenStores

EMBEDDED, EXACT, SEARCH = PLATFORMS = ("embedded", "exact", "search")
"""The embedded one; and two on given stores, whose chunks are searched exactly or by an index."""

_CHOSEN = ",".join(PLATFORMS)
"""Without `E2E_PLATFORMS`."""
_START_S = 300
_BLOCK = 4
_WORKERS = 8
_given: set[int] = set()
"""Which blocks of ports this worker gave away."""


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """A platform of its own home and ports, which stay the same when it is started again."""

    home: Path
    environment: dict[str, str] = field(repr=False)
    stores: GivenStores | None = None

    @property
    def objects(self) -> Path:
        """The folder where files lie in the end; an S3 server keeps them in one too."""
        return self.home / "objects" if self.stores is None else self.stores.files

    @property
    def owner_url(self) -> str:
        """Its database, for the owner of the schema."""
        installation = running_installation(Home(self.home))
        assert installation is not None, "the platform does not run"
        return installation.servers.owner_url(PLATFORM_DATABASE)

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
        str(field.validation_alias): str(_own_port())
        for name, field in EmbeddedSettings.model_fields.items()
        if name.endswith("_port")
    }
    own = {"POLYPLANE_HOME": str(home), "POLYPLANE_STRICT_PORTS": "1", "NO_COLOR": "1"}
    return RunningPlatform(home, {**os.environ, **ports, **own})


def _own_port() -> int:
    """Return a free port that no other platform of the tests gets, also while its own is stopped.

    Each worker has ports of its own. The next few stay free for what is counted up from it, such as
    the admin ports of further gateway processes.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        block = free_port() // _BLOCK
        if block % _WORKERS == worker % _WORKERS and block not in _given:
            _given.add(block)
            first = block * _BLOCK
            if all(is_free("127.0.0.1", first + further) for further in range(_BLOCK)):
                return first


def _print_logs(config: pytest.Config, home: Path) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():  # it is not the last test's own output
        for name, path in log_files(home / "logs").items():
            print(f"\n==== {name} ====", *tail(path, 40), sep="\n")  # noqa: T201 - shown on failure


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on the platforms that it is meant for."""
    if "platform" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("platforms")
        names = marker.args if marker else (EMBEDDED,)
        chosen = os.environ.get("E2E_PLATFORMS", _CHOSEN).split(",")
        wanted = [name for name in names if name in chosen]
        metafunc.parametrize("platform", wanted, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have two workers each start what the tests of one need: our own servers, or given ones."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        name = callspec.params.get("platform", EMBEDDED) if callspec else EMBEDDED
        group = "own servers" if name == EMBEDDED else "given servers"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def given_stores() -> Iterator[GivenStores]:
    """The stores of server mode, running."""
    if reason := stores.missing():
        pytest.skip(reason)
    with stores.folder_for_servers() as folder, GivenStores(Path(folder)) as given:
        yield given


@pytest.fixture(scope="session")
def platform(request: pytest.FixtureRequest) -> Iterator[RunningPlatform]:
    """A running platform, on its own servers or on given ones."""
    given: GivenStores | None = None
    if request.param != EMBEDDED:
        given = request.getfixturevalue("given_stores")
    with tempfile.TemporaryDirectory(prefix="polyplane-e2e-", ignore_cleanup_errors=True) as folder:
        running = new_platform(Path(folder) / "home")
        if given is not None:
            told = given.environment(is_exact=request.param == EXACT)
            running = replace(running, environment={**running.environment, **told}, stores=given)
        try:
            running.command("up")
            yield running
        finally:
            if request.session.testsfailed:
                _print_logs(request.config, running.home)
            running.command("reset", "--yes")
