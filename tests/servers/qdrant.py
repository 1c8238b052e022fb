"""Qdrant for tests: a server at TEST_QDRANT_URL, or Qdrant's engine behind a server of our own."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx

from planes.shared.stores.qdrant_settings import QdrantSettings
from tests.servers.processes import OwnServer
from tests.servers.s3 import cache

VERSION = "0.9.0"
API_KEY = os.environ.get("TEST_QDRANT_API_KEY", "test-key")
_ROOT = Path(__file__).resolve().parents[2]


def engine() -> Path:
    """Return the folder where the engine's package is, or will be."""
    return cache() / f"qdrant-edge-py-{VERSION}"


def missing() -> str | None:
    """Return why there can be no Qdrant here, after trying to get one; None: there is."""
    if engine().is_dir():
        return None
    building = engine().with_name(f"{engine().name}.{os.getpid()}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    installed = subprocess.run(
        [*pip, str(building), f"qdrant-edge-py=={VERSION}"], capture_output=True, check=False
    )
    if installed.returncode:
        return (
            f"no Qdrant: TEST_QDRANT_URL is not set, and qdrant-edge-py {VERSION} is not to be had"
        )
    try:
        building.rename(engine())
    except OSError:  # another run was first
        assert engine().is_dir()
    return None


class QdrantServer(OwnServer):
    """One server on a folder; it goes on with what is there."""

    def __init__(self, folder: Path, port: int, *arguments: str) -> None:
        """Store its folder and port, and further arguments."""
        self.url = f"http://127.0.0.1:{port}"
        folder.mkdir(parents=True, exist_ok=True)
        module = "tests.servers.qdrant_edge"
        command = [sys.executable, "-m", module, "--folder", str(folder), "--port", str(port)]
        paths = [str(engine()), str(_ROOT), os.environ.get("PYTHONPATH", "")]
        super().__init__(
            [*command, "--api-key", API_KEY, *arguments],
            folder=_ROOT,
            log=folder.with_name(f"{folder.name}.log"),
            environment={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )

    def wait_until_open(self) -> None:
        """Wait until it answers.

        Raises:
            TimeoutError: It does not within 60 s.
        """
        wait_until_it_answers(self.url, has_ended=self.has_ended)


def wait_until_it_answers(url: str, *, has_ended: Callable[[], bool] = lambda: False) -> None:
    """Wait until a Qdrant answers.

    Raises:
        TimeoutError: It does not within 60 s.
    """
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            httpx.get(url, timeout=1)
        except httpx.TransportError:
            assert not has_ended(), "the server ended; see its log"
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"no Qdrant at {url}")


def settings_of(url: str, **values: object) -> QdrantSettings:
    """Return settings for an empty part of a server, and nothing else."""
    given = {"qdrant_url": url, "qdrant_api_key": API_KEY, "qdrant_prefix": uuid4().hex}
    return QdrantSettings.model_validate(given | values)
