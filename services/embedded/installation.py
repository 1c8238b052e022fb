"""One embedded platform: where it lives and what it was told."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from planes.shared.ports import ObjectStore
from planes.shared.stores.object_settings import ObjectStoreSettings, object_store
from services.embedded.home import Home
from services.embedded.ports import url
from services.embedded.postgres import DAGSTER_DATABASE, DAGSTER_ROLE, PLATFORM_DATABASE, Postgres
from services.embedded.processes import INSTANCE_VARIABLE, PART_VARIABLE
from services.embedded.redis import Redis
from services.embedded.state import read_state

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

    def postgres(self) -> Postgres:
        """Return the database server."""
        return Postgres(
            self.home.postgres,
            port=self.ports["postgres"],
            owner_password=self.secrets["polyplane_owner"],
        )

    def redis(self) -> Redis:
        """Return the Redis server."""
        return Redis(
            self.home.redis,
            port=self.ports["redis"],
            password=self.secrets["redis"],
            serving_password=self.secrets["redis_serving"],
            data_password=self.secrets["redis_data"],
        )

    def database_url(self, role: str) -> str:
        """Return the platform's database for a service role."""
        return self.postgres().url(PLATFORM_DATABASE, role=role, password=self.secrets[role])

    def dagster_database_url(self) -> str:
        """Return Dagster's own database."""
        password = self.secrets[DAGSTER_ROLE]
        return self.postgres().url(DAGSTER_DATABASE, role=DAGSTER_ROLE, password=password)

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
            for name, value in self.environment.items()
            if name in _FOR_ALL or name.startswith((*prefixes, "LC_"))
        }
        marks = {INSTANCE_VARIABLE: self.home.instance, PART_VARIABLE: part}
        return {**inherited, "PYTHONUNBUFFERED": "1", **values, **marks}

    def objects(self) -> ObjectStore:
        """Return where uploaded files and extracted texts are."""
        named = {name: value for name, value in self.environment.items() if name.startswith("S3_")}
        return object_store(
            ObjectStoreSettings.of({**named, "OBJECTS_DIR": str(self.home.objects)})
        )


def running_installation(home: Home) -> Installation | None:
    """Return what runs in this home, None when nothing does."""
    state = read_state(home)
    if state is None or not state.ports:
        return None
    return Installation(
        home=home,
        ports=state.ports,
        secrets=home.secrets(),
        environment={},
        host=state.host,
        tls=state.tls,
    )
