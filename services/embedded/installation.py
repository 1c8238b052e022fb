"""One platform on this machine: where it lives and what it was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from planes.shared.ports import ObjectStore
from planes.shared.settings import SettingsWrong, SharedSettings
from planes.shared.stores.object_settings import ObjectStoreSettings, object_store
from services.embedded.given_servers import GivenServers
from services.embedded.home import Home
from services.embedded.launch import with_whole_paths
from services.embedded.own_servers import OwnServers
from services.embedded.ports import url
from services.embedded.processes import INSTANCE_VARIABLE, PART_VARIABLE
from services.embedded.remembered import Remembered, remembered
from services.embedded.servers import Mode, Servers
from services.embedded.state import read_state

Settings = TypeVar("Settings", bound=SharedSettings)
OWNER_URL = ("DATABASE_OWNER_URL", "DATABASE_OWNER_URL_FILE")
"""The variables that name a given PostgreSQL."""
_FOR_ALL = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "OMP_NUM_THREADS",
    "COVERAGE_PROCESS_START", "EMBEDDING_PRECISION",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Installation:
    """Where the platform lives and what it was told."""

    home: Home
    ports: Mapping[str, int]
    secrets: Mapping[str, str]
    environment: Mapping[str, str]
    host: str
    tls: bool
    gateway_shutdown_s: float = 20.0
    mode: Mode = "embedded"

    @property
    def servers(self) -> Servers:
        """PostgreSQL and Redis.

        Raises:
            SettingsWrong: They are given ones, and not all that is needed is.
        """
        if self.mode == "server":
            return GivenServers.of(self.environment, self.secrets)
        return OwnServers(self.home, self.ports, self.secrets)

    def settings(self, kind: type[Settings]) -> Settings:
        """Return settings of stores as the platform uses them.

        Args:
            kind: Such as `ChunkStoreSettings`; `RedisSettings` are those of the gateway.

        Raises:
            SettingsWrong: They have become wrong, for example by a file that is gone.
        """
        return kind.of(self.servers.environment(self.environment))

    def database_url(self, role: str) -> str:
        """Return the platform's database for a service role, or Dagster's for its own."""
        return self.servers.role_url(role)

    @property
    def embedding_models(self) -> Path:
        """The folder of embedding models that are not packaged."""
        return Path(self.environment.get("EMBEDDING_MODELS_DIR") or self.home.models).absolute()

    def gateway_url(self) -> str:
        """Return where the gateway is reached from this machine."""
        return url(self.host, self.ports["gateway"], tls=self.tls)

    def variables(self, part: str, *prefixes: str, **values: str) -> dict[str, str]:
        """Return a part's environment.

        Args:
            part: Its name, by which its processes are found again.
            *prefixes: Of the operator's variables that are meant for it.
            **values: What the platform tells it; stronger.
        """
        inherited = {
            name: value
            for name, value in self.servers.environment(self.environment).items()
            if name in _FOR_ALL or name.startswith((*prefixes, "LC_"))
        }
        marks = {INSTANCE_VARIABLE: self.home.instance, PART_VARIABLE: part}
        return {**inherited, "PYTHONUNBUFFERED": "1", **values, **marks}

    def objects(self) -> ObjectStore:
        """Return where uploaded files and extracted texts are."""
        return object_store(self.settings(ObjectStoreSettings))


class NotRunning(RuntimeError):
    """There are no stores to work with: nothing runs, and no servers are named."""


def installation_at_hand(home: Home, environment: Mapping[str, str]) -> Installation:
    """Return what runs in this home, else what would run on the servers that variables name.

    Args:
        home: May be absent.
        environment: The operator's, which counts only where nothing runs.

    Raises:
        NotRunning: Nothing does, and `DATABASE_OWNER_URL` is not set.
        SettingsWrong: Something does, and `DATABASE_OWNER_URL` names another server.
    """
    running = running_installation(home)
    environment = with_whole_paths(environment)  # as `up` remembers them
    named = {name: environment[name] for name in OWNER_URL if environment.get(name)}
    if running is not None:
        if any(running.environment.get(name) != value for name, value in named.items()):
            raise SettingsWrong(
                f"DATABASE_OWNER_URL: the platform that runs in {home.root} is on another server. "
                "Unset it to work on that platform, or set POLYPLANE_HOME to an empty folder."
            )
        return running
    if not named:
        raise NotRunning(
            "Polyplane is not running: `polyplane up` starts it. Or set DATABASE_OWNER_URL to work "
            "on given servers."
        )
    last = remembered(home)
    return Installation(
        home=home,
        ports={},
        # Those of an embedded platform are no business of a server that somebody else runs.
        secrets=home.known_secrets() if last is not None and last.mode == "server" else {},
        environment=environment,
        host="127.0.0.1",
        tls=False,
        mode="server",
    )


def running_installation(home: Home) -> Installation | None:
    """Return what runs in this home, on the stores that it was started with; None: nothing does."""
    state = read_state(home)
    if state is None or not state.ports:
        return None
    last = remembered(home) or Remembered("embedded", {})
    return Installation(
        home=home,
        ports=state.ports,
        secrets=home.secrets(),
        environment=last.variables,
        host=state.host,
        tls=state.tls,
        mode=last.mode,
    )
