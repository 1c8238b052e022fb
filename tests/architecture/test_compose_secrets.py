"""The secrets of docker-compose.yml, and who can do what with them."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from passlib.hash import sha512_crypt
from redis.exceptions import AuthenticationError, NoPermissionError

from services.embedded.binaries import redis_server
from services.embedded.ports import free_port
from tests.architecture.compose import FILES, module
from tests.servers.processes import OwnServer

make_secrets = module(FILES / "make_secrets.py")


def test_secrets_are_made_once_and_the_folder_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = make_secrets.make(folder)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(made) == first.keys()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}
    (folder / "data_mongo_url").unlink()
    assert make_secrets.make(folder) == ["data_mongo_url"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first
    assert len(set(first.values())) == len(first)
    assert first["serving_openai_api_key"].strip() == b"", "an operator's"


def test_scylla_gets_the_hash_of_the_password_that_migrate_sends(tmp_path: Path) -> None:
    make_secrets.make(tmp_path)
    hashed = (tmp_path / "scylla_users").read_text().splitlines()[1].partition(": ")[2].strip("'")
    assert sha512_crypt.verify((tmp_path / "cql_password").read_text().strip(), hashed)


@pytest.mark.integration
def test_redis_evicts_nothing_and_planes_reach_caches_alone(tmp_path: Path) -> None:
    make_secrets.make(tmp_path / "secrets")
    port = free_port()
    configuration = (
        (FILES / "redis.conf").read_text().replace("/run/secrets", f"{tmp_path}/secrets")
    )
    (tmp_path / "redis.conf").write_text(
        configuration.replace("dir /data", f"dir {tmp_path}") + f"port {port}\nbind 127.0.0.1\n"
    )

    def client(name: str) -> redis.Redis:
        url = urlsplit((tmp_path / "secrets" / name).read_text().strip())
        own = url._replace(netloc=url.netloc.replace("redis:6379", f"127.0.0.1:{port}"))
        return redis.Redis.from_url(own.geturl())

    command = [str(redis_server()), str(tmp_path / "redis.conf")]
    server = OwnServer(command, folder=tmp_path, log=tmp_path / "log", environment={})
    server.address = ("127.0.0.1", port)
    server.start()
    try:
        server.wait_until_open()
        gateway, serving = client("gateway_redis_url"), client("serving_redis_url")
        assert gateway.info("memory")["maxmemory_policy"] == "noeviction"
        gateway.set("session:one", "alive")
        assert gateway.publish("revocations", "none") == 0
        for forbidden in (
            lambda: gateway.config_set("maxmemory-policy", "allkeys-lru"),
            lambda: gateway.get("another:one"),
            gateway.flushall,
        ):
            with pytest.raises(NoPermissionError):
                forbidden()
        serving.set("cache:one", "kept")
        assert client("data_redis_url").delete("cache:one") == 1
        with pytest.raises(NoPermissionError):
            serving.get("session:one")
        with pytest.raises(AuthenticationError):
            redis.Redis(port=port).ping()
    finally:
        server.end()
