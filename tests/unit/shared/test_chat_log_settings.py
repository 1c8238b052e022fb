"""Settings of the chat log that are refused before anything is reached."""

import pytest

from planes.shared.settings import SettingsWrong
from planes.shared.stores.chat_log_settings import ChatLogSettings, cql_options


def read(**variables: str) -> ChatLogSettings:
    return ChatLogSettings.of(variables)


def test_without_hosts_there_is_no_cluster() -> None:
    assert not read().has_cql
    assert read(CQL_HOSTS="127.0.0.1").has_cql


def test_hosts_have_a_port_in_common() -> None:
    options = cql_options(read(CQL_HOSTS="127.0.0.1:9142, localhost:9142"))
    assert (options.hosts, options.port) == (("127.0.0.1", "localhost"), 9142)
    assert cql_options(read(CQL_HOSTS="::1")).hosts == ("::1",)
    assert cql_options(read(CQL_HOSTS="[::1]:9142")).port == 9142
    for wrong in ("127.0.0.1:1,127.0.0.1:2", "127.0.0.1:cql"):
        with pytest.raises(SettingsWrong, match="CQL_HOSTS"):
            read(CQL_HOSTS=wrong)


def test_nodes_elsewhere_want_tls_or_a_word() -> None:
    with pytest.raises(SettingsWrong, match="CQL_TLS"):
        read(CQL_HOSTS="db.example.com")
    assert cql_options(read(CQL_HOSTS="db.example.com", CQL_TLS="true")).tls is not None
    assert cql_options(read(CQL_HOSTS="db.example.com", CQL_ALLOW_PLAIN="true")).tls is None


def test_days_are_of_every_plan_or_by_plan() -> None:
    hosts = {"CQL_HOSTS": "127.0.0.1"}
    assert read(**hosts, CQL_TTL_DAYS="90").cql_ttl_days == {"*": 90}
    assert read(**hosts, CQL_TTL_DAYS='{"free": 7}').cql_ttl_days == {"free": 7}
    for wrong in ("0", '{"free": 5000}', "soon"):  # beyond 2038, which Cassandra 4 refuses
        with pytest.raises(SettingsWrong, match="CQL_TTL_DAYS"):
            read(**hosts, CQL_TTL_DAYS=wrong)
    with pytest.raises(SettingsWrong, match="CQL_HOSTS"):
        read(CQL_TTL_DAYS="90")


def test_a_name_wants_its_password() -> None:
    with pytest.raises(SettingsWrong, match="CQL_PASSWORD"):
        read(CQL_HOSTS="127.0.0.1", CQL_USERNAME="polyplane")


def test_a_keyspace_is_a_plain_name() -> None:
    with pytest.raises(SettingsWrong, match="CQL_KEYSPACE"):
        read(CQL_HOSTS="127.0.0.1", CQL_KEYSPACE="a; DROP KEYSPACE b")
