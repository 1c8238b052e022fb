"""What an address of Redis says."""

from pathlib import Path

import pytest

from planes.shared.settings import SettingsWrong
from planes.shared.stores.redis_address import (
    RedisAddress,
    RedisKind,
    RedisLogin,
    RedisSettings,
)


def test_one_server() -> None:
    address = RedisAddress.parse("redis://ada:p%40ss@cache:6380/2")
    assert (address.kind, address.is_encrypted) == (RedisKind.SINGLE, False)
    assert address.nodes == (("cache", 6380),)
    assert address.options(RedisLogin("eve", "other")) == {
        "db": 2,
        "username": "ada",
        "password": "p@ss",
    }


def test_sentinels_and_their_service() -> None:
    address = RedisAddress.parse("rediss+sentinel://:secret@one:1,two,[::1]:3/main/4")
    assert address.kind is RedisKind.SENTINEL
    assert address.nodes == (("one", 1), ("two", 26379), ("::1", 3))
    assert (address.service, address.database) == ("main", 4)
    login = RedisLogin("ada", ca=Path("/ca.pem"), sentinel_password="theirs")
    encryption = {"ssl": True, "ssl_ca_certs": "/ca.pem"}
    assert address.options(login) == {
        "db": 4,
        "username": "ada",
        "password": "secret",
        **encryption,
    }
    assert address.sentinel_options(login) == {
        "username": None,
        "password": "theirs",
        **encryption,
    }


def test_nodes_of_a_cluster() -> None:
    address = RedisAddress.parse("redis+cluster://one,two:7000")
    assert address.kind is RedisKind.CLUSTER
    assert address.nodes == (("one", 6379), ("two", 7000))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://host",
        "redis://",
        "redis://one,two",
        "redis://host:port",
        "redis://host/first",
        "redis+sentinel://host:26379",
        "redis+cluster://host/1",
    ],
)
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(SettingsWrong) as refusal:
        RedisSettings.of({"REDIS_URL": url.replace("host", "secrethost")})
    assert "REDIS_URL" in str(refusal.value)
    assert "secrethost" not in str(refusal.value)
