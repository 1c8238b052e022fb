"""Migrations of the chat log's cluster, expiry, and what is refused at the start."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from cassandra import Unauthorized

from planes.shared.stores.chat_log_settings import (
    ChatLogSettings,
    cql_options,
    migrate_chat_log,
    open_chat_log,
)
from planes.shared.stores.cql_cluster import READ, CqlRefused, connected
from planes.shared.stores.cql_schema import CQL_SCHEMA_VERSION
from planes.shared.stores.postgres import Database
from tests.contract.test_chat_log import message
from tests.servers.cassandra import CassandraServer
from tests.servers.cql_fixtures import cql_settings, drop

pytestmark = pytest.mark.contract("messages", "cql", "cql")
PRO, FREE = uuid4(), uuid4()


@pytest.fixture
def fresh(cql_values: dict[str, object]) -> Iterator[dict[str, object]]:
    """Settings of a keyspace that nobody has made yet."""
    values = {**cql_values, "cql_keyspace": f"test_{uuid4().hex[:20]}"}
    yield values
    drop(cql_settings(values))


@pytest.fixture
async def database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """A database with a tenant of the plan `pro` and one of `free`."""
    admin = await asyncpg.connect(database_urls["admin"])
    for tenant, plan in ((PRO, "pro"), (FREE, "free")):
        await admin.execute(
            "INSERT INTO tenants (id, name, plan) VALUES ($1, '', $2)", tenant, plan
        )
    await admin.close()
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    yield database
    await database.close()


def asked(settings: ChatLogSettings, cql: str) -> list[Any]:
    """Ask the cluster directly."""
    options = cql_options(settings)
    cluster = options.cluster()
    try:
        session = connected(cluster, options.local_dc)
        return list(session.execute(cql.format(options.keyspace), execution_profile=READ))
    finally:
        cluster.shutdown()


async def test_many_may_migrate_at_once(fresh: dict[str, object], database: Database) -> None:
    settings = cql_settings(fresh)
    with ThreadPoolExecutor(6) as pool:
        versions = list(pool.map(migrate_chat_log, [settings] * 6))
    assert versions == [CQL_SCHEMA_VERSION] * 6
    written = message(1, uuid4(), tenant=PRO)
    async with open_chat_log(settings, database) as log:
        await log.append([written])
        assert migrate_chat_log(settings) == CQL_SCHEMA_VERSION
        assert await log.page(PRO, written.conversation_id, after_seq=0, limit=1) == [written]


async def test_a_keyspace_that_is_not_migrated_is_refused_with_the_command(
    fresh: dict[str, object], database: Database
) -> None:
    with pytest.raises(CqlRefused, match="polyplane migrate"):
        async with open_chat_log(cql_settings(fresh), database):
            pass


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cql_password": "wrong"}, "CQL_PASSWORD"),
        ({"cql_username": None, "cql_password": None}, "CQL_USERNAME"),
        ({"cql_local_dc": "nowhere"}, "the cluster's data centres are datacenter1"),
    ],
)
async def test_a_cluster_that_cannot_serve_is_refused_with_the_setting(
    own_cql_values: dict[str, object],  # another cluster may take anybody
    database: Database,
    wrong: dict[str, object],
    told: str,
) -> None:
    settings = cql_settings(own_cql_values, **wrong)
    with pytest.raises(CqlRefused, match=told):
        async with open_chat_log(settings, database):
            pass
    with pytest.raises(CqlRefused, match=told):
        migrate_chat_log(settings)


async def test_the_account_that_migrate_makes_has_the_rights_of_a_gateway_and_no_more(
    own_cql_values: dict[str, object], database: Database
) -> None:
    account = {"cql_gateway_username": "talker", "cql_gateway_password": "it's 'quoted'"}
    settings = cql_settings(own_cql_values, **account)
    migrate_chat_log(
        cql_settings(own_cql_values, **account | {"cql_gateway_password": "an older one"})
    )
    migrate_chat_log(settings)
    gateways = cql_settings(own_cql_values, cql_username="talker", cql_password="it's 'quoted'")
    written = message(1, uuid4(), tenant=PRO)
    async with open_chat_log(gateways, database) as log:
        await log.check()
        await log.append([written])
        assert await log.page(PRO, written.conversation_id, after_seq=0, limit=1) == [written]
        assert await log.remove_conversation(PRO, written.conversation_id) == 1
    for cql in ("DROP TABLE {}.chat_messages", "SELECT * FROM system_auth.roles"):
        with pytest.raises(Unauthorized):
            asked(gateways, cql)


def test_more_copies_than_nodes_are_refused(own_cql_values: dict[str, object]) -> None:
    three_copies = {"cql_keyspace": "never_made", "cql_replication": {}}
    with pytest.raises(CqlRefused, match="CQL_REPLICATION"):
        migrate_chat_log(cql_settings(own_cql_values, **three_copies))


async def test_connections_are_encrypted_where_a_certificate_is_named(
    own_cql_values: dict[str, object], cassandra_server: CassandraServer, database: Database
) -> None:
    settings = cql_settings(own_cql_values, cql_tls_ca=cassandra_server.certificate)
    written = message(1, uuid4(), tenant=PRO)
    async with open_chat_log(settings, database) as log:
        await log.append([written])
    connections = asked(settings, "SELECT ssl_enabled FROM system_views.clients")
    assert {row[0] for row in connections} == {True}


async def test_messages_expire_by_their_tenants_plan_and_their_own_time(
    fresh: dict[str, object], database: Database
) -> None:
    settings = cql_settings(fresh, cql_ttl_days={"free": 2, "*": 30})
    migrate_chat_log(settings)
    now = datetime.now(UTC)
    old = now - timedelta(days=1)

    def written(tenant: UUID, seq: int, time: datetime) -> Any:
        return replace(message(seq, conversation, tenant=tenant), created_at=time)

    conversation = uuid4()
    async with open_chat_log(settings, database) as log:
        await log.append([written(PRO, 1, now), written(PRO, 2, now - timedelta(days=31))])
        await log.append([written(FREE, 1, old)])
        kept = await log.page(PRO, conversation, after_seq=0, limit=9)
    assert [each.seq for each in kept] == [1]
    rows = asked(settings, "SELECT tenant_id, ttl(payload) FROM {}.chat_messages")
    days = {tenant: seconds / 86400 for tenant, seconds in rows}
    assert days[PRO] == pytest.approx(30, abs=0.1)
    assert days[FREE] == pytest.approx(1, abs=0.1)


def test_a_table_whose_messages_all_expire_is_kept_by_windows_of_time(
    fresh: dict[str, object],
) -> None:
    query = (
        "SELECT compaction FROM system_schema.tables "
        "WHERE keyspace_name = '{}' AND table_name = 'chat_messages'"
    )
    for days, wanted in (
        ({}, "SizeTiered"),
        ({"*": 90}, "TimeWindow"),
        ({"free": 90}, "SizeTiered"),
    ):
        settings = cql_settings(fresh, cql_ttl_days=days)
        migrate_chat_log(settings)
        (found,) = asked(settings, query)
        assert wanted in found[0]["class"]


def test_a_strategy_that_an_operator_has_chosen_stays(fresh: dict[str, object]) -> None:
    settings = cql_settings(fresh)
    migrate_chat_log(settings)
    asked(
        settings,
        "ALTER TABLE {}.chat_messages WITH compaction = {{'class': 'LeveledCompactionStrategy'}}",
    )
    migrate_chat_log(settings)
    (found,) = asked(
        settings,
        "SELECT compaction FROM system_schema.tables "
        "WHERE keyspace_name = '{}' AND table_name = 'chat_messages'",
    )
    assert "Leveled" in found[0]["class"]


async def test_a_write_that_comes_late_does_not_bring_a_removed_message_back(
    cql_values: dict[str, object], database: Database
) -> None:
    written = message(1, uuid4(), tenant=PRO)
    async with open_chat_log(cql_settings(cql_values), database) as log:
        await log.append([written])
        assert await log.remove_conversation(PRO, written.conversation_id) == 1
        await log.append([replace(written, created_at=datetime.now(UTC)), written])
        assert await log.page(PRO, written.conversation_id, after_seq=0, limit=9) == []
