"""An S3 server with a bucket for tests: given, versitygw in a container, or built by Go."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.embedded.ports import free_port
from tests.servers import docker, s3
from tests.servers.matrix import ran
from tests.servers.s3 import S3Server

_IN_CONTAINER = "mkdir -p /data/bucket && exec versitygw --port :7070 --quiet posix /data"


@pytest.fixture(scope="session")
def s3_values(request: pytest.FixtureRequest) -> dict[str, object]:
    """Settings of an object store in a bucket of a running server, but the prefix."""
    if given := os.environ.get("TEST_S3_ENDPOINT"):
        ran(request.config, "s3", f"{given.partition('://')[2]} (TEST_S3_ENDPOINT)")
        names = ("BUCKET", "REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY")
        told = {f"s3_{name.lower()}": os.environ.get(f"TEST_S3_{name}") for name in names}
        return {"s3_endpoint": given, **{name: each for name, each in told.items() if each}}
    in_docker = docker.engine_runs()
    url = request.getfixturevalue("s3_container" if in_docker else "s3_url")
    source = docker.image_of("s3").partition("@")[0] if in_docker else f"{s3.VERSION}, built by Go"
    ran(request.config, "s3", f"versitygw ({source})")
    return {
        "s3_bucket": "bucket",
        "s3_endpoint": url,
        "s3_access_key_id": s3.ACCESS_KEY,
        "s3_secret_access_key": s3.SECRET_KEY,
    }


@pytest.fixture(scope="session")
def s3_container() -> Iterator[str]:
    """The address of a versitygw in a container."""
    keys = {"ROOT_ACCESS_KEY_ID": s3.ACCESS_KEY, "ROOT_SECRET_ACCESS_KEY": s3.SECRET_KEY}
    environment = [word for item in keys.items() for word in ("--env", "=".join(item))]
    options = [*environment, "--tmpfs", "/data", "--entrypoint", "/bin/sh"]
    with docker.container("s3", 7070, options=options, arguments=["-c", _IN_CONTAINER]) as address:
        s3.wait_until_open(address)
        yield f"http://{address}"


@pytest.fixture(scope="session")
def s3_url(server_folder: Path) -> Iterator[str]:
    """The address of a versitygw of the tests' own."""
    if reason := s3.missing():
        pytest.skip(reason)
    s3.build()
    server = S3Server(server_folder / "s3", free_port())
    server.start()
    try:
        server.wait_until_open()
        yield server.url
    finally:
        server.end()
