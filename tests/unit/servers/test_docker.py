"""Containers for tests, asked of a `docker` that writes down what it is told."""

import subprocess
from pathlib import Path

import pytest

from tests.servers import docker

_PROGRAM = """#!/bin/sh
echo "$@" >> "{told}"
case "$1" in
  run) echo abc123 ;;
  port) echo 127.0.0.1:45678 ;;
  inspect) echo "running {health}" ;;
  version) {version} ;;
esac
"""


def install(folder: Path, *, version: str = "echo 28", health: str = "healthy") -> Path:
    """Make a `docker`, and return the file in which it writes its arguments."""
    told = folder / "told"
    program = folder / "docker"
    program.write_text(_PROGRAM.format(told=told, version=version, health=health), "utf-8")
    program.chmod(0o755)
    return told


def test_a_server_runs_from_the_pinned_image_and_is_removed_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = install(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def use() -> None:
        with docker.container("scylla", 9042, arguments=["--x"]) as address:
            assert address == "127.0.0.1:45678"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    pulled, run, *_, removed = told.read_text("utf-8").splitlines()
    image = docker.image_of("scylla")
    assert image.startswith("scylladb/scylla:")
    assert pulled.endswith(image)
    assert run.startswith("run --detach --publish 127.0.0.1::9042 ")
    assert run.endswith(f"{image} --x")
    assert removed == "rm --force --volumes abc123"


@pytest.mark.parametrize(("version", "runs"), [("echo 28", True), ("exit 1", False)])
def test_an_engine_that_does_not_answer_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, *, runs: bool
) -> None:
    install(tmp_path, version=version)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("TEST_DOCKER", raising=False)
    assert docker.engine_runs.__wrapped__() is runs
    monkeypatch.setenv("TEST_DOCKER", "no")
    assert not docker.engine_runs.__wrapped__()


def test_every_image_is_one_that_the_composition_pins() -> None:
    for service in ("mongodb", "scylla", "s3"):
        assert ":" in docker.image_of(service)
    with pytest.raises(KeyError):
        docker.image_of("none")


def test_what_docker_refuses_ends_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path).parent.joinpath("docker").write_text("#!/bin/sh\nexit 1\n", "utf-8")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(subprocess.CalledProcessError), docker.container("s3", 7070):
        pass
