"""Servers in containers, where a Docker engine runs: the images that docker-compose.yml pins."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import yaml

_COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.yml"
_QDRANT = "qdrant/qdrant:v1.19.1"  # no part of the composition
_PULLED_S = 900
_ANSWERED_S = 30
_HEALTHY_S = 180


@cache
def engine_runs() -> bool:
    """Whether a Docker engine answers; TEST_DOCKER=no: it is not asked."""
    if os.environ.get("TEST_DOCKER") == "no" or shutil.which("docker") is None:
        return False
    try:
        _docker("version", "--format", "{{.Server.Version}}")
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False
    return True


def image_of(service: str) -> str:
    """Return the image of a service of docker-compose.yml, or of Qdrant."""
    if service == "qdrant":
        return _QDRANT
    composition = yaml.safe_load(_COMPOSE.read_text("utf-8"))
    return str(composition["services"][service]["image"])


@contextmanager
def container(
    service: str, port: int, *, options: Sequence[str] = (), arguments: Sequence[str] = ()
) -> Iterator[str]:
    """Run a service's image, and remove it in the end.

    Args:
        service: Its name in docker-compose.yml, or `qdrant`.
        port: What the server listens on inside.
        options: Further options of `docker run`.
        arguments: What stands behind the image.

    Yields:
        Host and port on loopback; a server whose image tells its health is healthy by then.

    Raises:
        subprocess.CalledProcessError: Docker refused.
        TimeoutError: The server is not healthy within three minutes.
    """
    image = image_of(service)
    _docker("pull", "--quiet", image, timeout_s=_PULLED_S)
    published = ["--publish", f"127.0.0.1::{port}", "--label", "polyplane-tests"]
    name = _docker("run", "--detach", *published, *options, image, *arguments)
    try:
        _wait_until_healthy(name)
        yield _docker("port", name, f"{port}/tcp").splitlines()[0]
    finally:
        _docker("rm", "--force", "--volumes", name)


def _wait_until_healthy(name: str) -> None:
    """Wait for the image's own test, where it has one."""
    health = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}"
    end = time.monotonic() + _HEALTHY_S
    while time.monotonic() < end:
        status, healthy = _docker("inspect", "--format", health, name).split()
        assert status == "running", _docker("logs", "--tail", "50", name)
        if healthy == "healthy":
            return
        time.sleep(0.5)
    raise TimeoutError(f"the container {name} is not healthy: {_docker('logs', name)[-2000:]}")


def _docker(*arguments: str, timeout_s: float = _ANSWERED_S) -> str:
    done = subprocess.run(
        ["docker", *arguments], check=True, capture_output=True, text=True, timeout=timeout_s
    )
    return done.stdout.strip()
