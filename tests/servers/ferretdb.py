"""A server of MongoDB's protocol for everything but search: FerretDB on PostgreSQL.

It is built once by the Go toolchain from `ferretdb_command/`. It knows neither sessions nor
transactions, neither search indexes nor `$vectorSearch`.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.processes import OwnServer
from tests.servers.s3 import cache

VERSION = "v1.24.0"
_SOURCE = Path(__file__).with_name("ferretdb_command")


def missing() -> str | None:
    """Return why there can be no FerretDB here; None: there can."""
    if binary().is_file() or shutil.which("go"):
        return None
    return "no FerretDB: it is built by the Go toolchain (go), which is not installed"


def binary() -> Path:
    """Return where the server's program is, or will be."""
    return cache() / f"ferretdb-{VERSION}" / "ferretdb"


def build() -> None:
    """Build the server if it is not there yet: one to three minutes."""
    if binary().is_file():
        return
    binary().parent.mkdir(parents=True, exist_ok=True)
    building = binary().with_name(f"ferretdb.{os.getpid()}")
    subprocess.run(
        ["go", "build", "-mod=readonly", "-o", str(building), "."], check=True, cwd=_SOURCE
    )
    building.replace(binary())


class FerretServer(OwnServer):
    """One server, which keeps its databases as schemas of one PostgreSQL database."""

    def __init__(self, folder: Path, port: int, postgres_url: str) -> None:
        """Store its folder, its port, and the URL of an empty PostgreSQL database."""
        self.url = f"mongodb://127.0.0.1:{port}"
        self.address = ("127.0.0.1", port)
        folder.mkdir(parents=True, exist_ok=True)
        listen = f"127.0.0.1:{port}"
        super().__init__(
            [str(binary()), "-listen", listen, "-postgres", postgres_url],
            folder=folder,
            log=folder / "ferretdb.log",
            environment={**os.environ, "DO_NOT_TRACK": "1"},
        )
