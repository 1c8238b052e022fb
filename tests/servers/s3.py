"""A real S3 server over a folder: versitygw, built once from its source by the Go toolchain."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.servers.processes import OwnServer

VERSION = "v1.8.0"
ACCESS_KEY, SECRET_KEY = "test-access", "test-secret"


def cache() -> Path:
    """Return the folder in which servers outlive test runs."""
    root = os.environ.get("POLYPLANE_TEST_CACHE") or Path.home() / ".cache" / "polyplane-tests"
    return Path(root)


def missing() -> str | None:
    """Return why there can be no S3 server here; None: there can."""
    if binary().is_file() or shutil.which("go"):
        return None
    return "no versitygw: it is built by the Go toolchain (go), which is not installed"


def binary() -> Path:
    """Return where the server's program is, or will be."""
    return cache() / f"versitygw-{VERSION}" / "versitygw"


def build() -> None:
    """Build the server if it is not there yet: about a minute."""
    if binary().is_file():
        return
    target = binary().parent
    building = target.with_name(f"{target.name}.{os.getpid()}")
    module = f"github.com/versity/versitygw/cmd/versitygw@{VERSION}"
    subprocess.run(
        ["go", "install", module], check=True, env={**os.environ, "GOBIN": str(building)}
    )
    target.mkdir(parents=True, exist_ok=True)
    (building / "versitygw").replace(binary())
    building.rmdir()


class S3Server(OwnServer):
    """One server with one bucket, `bucket`."""

    def __init__(self, folder: Path, port: int) -> None:
        """Store its folder and port."""
        self.url = f"http://127.0.0.1:{port}"
        self.address = ("127.0.0.1", port)
        self.bucket = folder / "bucket"
        self.bucket.mkdir(parents=True)
        command = [str(binary()), "--port", f"127.0.0.1:{port}", "--quiet", "posix", str(folder)]
        super().__init__(
            command,
            folder=folder,
            log=folder.with_name(f"{folder.name}.log"),
            environment={
                **os.environ,
                "ROOT_ACCESS_KEY": ACCESS_KEY,
                "ROOT_SECRET_KEY": SECRET_KEY,
            },
        )


def wait_until_open(address: str) -> None:
    """Wait until a server takes connections.

    Raises:
        TimeoutError: It does not within 30 s.
    """
    host, _, port = address.rpartition(":")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"no S3 server at {address}")
