"""A real PgBouncer in transaction mode, from Debian's package, in front of a test's PostgreSQL."""

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from services.embedded.accounts import identity, unprivileged_account
from tests.servers import debian
from tests.servers.processes import OwnServer

_CONFIGURATION = """\
[databases]
* = host=127.0.0.1 port={database_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = plain
auth_file = {users}
pool_mode = transaction
default_pool_size = {server_connections}
max_client_conn = 500
"""


def missing() -> str | None:
    """Return why there can be no PgBouncer here; None: there can."""
    return debian.missing("pgbouncer")


class PgBouncer(OwnServer):
    """Lends `server_connections` for each role and database, for one transaction each."""

    def __init__(
        self,
        folder: Path,
        port: int,
        database_port: int,
        *,
        logins: Iterable[tuple[str, str]],
        server_connections: int,
    ) -> None:
        """Write its configuration; `missing` returns None, and `debian.unpack` has run."""
        folder.mkdir()
        folder.chmod(0o711)
        self._port = port
        programs = folder / "programs"  # where an account that is not ours can reach them
        shutil.copytree(debian.root("pgbouncer"), programs, symlinks=True)
        users = folder / "users.txt"
        users.write_text("".join(f'"{role}" "{password}"\n' for role, password in logins), "utf-8")
        configuration = folder / "pgbouncer.ini"
        configuration.write_text(
            _CONFIGURATION.format(
                port=port,
                database_port=database_port,
                users=users,
                server_connections=server_connections,
            ),
            "utf-8",
        )
        super().__init__(
            [str(programs / "usr" / "sbin" / "pgbouncer"), str(configuration)],
            folder=folder,
            log=folder.with_name(f"{folder.name}.log"),
            environment=debian.environment(programs),
            account=identity(unprivileged_account()),
        )

    def version(self) -> str:
        """Return what the program says of itself: `PgBouncer 1.18.0`."""
        command = [self._command[0], "--version"]
        told = subprocess.run(
            command, check=True, capture_output=True, text=True, env=self._environment
        )
        return told.stdout.splitlines()[0]

    def before(self, url: str) -> str:
        """Return the address of a database by way of this pooler."""
        split = urlsplit(url)
        netloc = f"{split.netloc.rpartition(':')[0]}:{self._port}"
        return urlunsplit(split._replace(netloc=netloc, query="pooler=transaction"))
