"""The chat log's tables in a CQL cluster, by versions that only grow.

Many nodes may migrate at once, without lightweight transactions: every statement is `IF NOT
EXISTS`, and a table's id follows from its name, so that two nodes that create it at the same moment
create the same table, not two that contend for the name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import NAMESPACE_URL, uuid5

import structlog
from cassandra import InvalidRequest, Unauthorized
from cassandra.cluster import Session

from planes.shared.errors import Unavailable
from planes.shared.stores.cql_cluster import (
    DRIVER_ERRORS,
    READ,
    WRITE,
    CqlOptions,
    CqlRefused,
    connected,
    first_line,
)

CQL_SCHEMA_VERSION = 1
_TABLE = "chat_messages"
_VERSIONS_TABLE = """
CREATE TABLE IF NOT EXISTS {keyspace}.schema_migrations (
    version int PRIMARY KEY, applied_at timestamp
) WITH id = '{id}'
"""
_MIGRATIONS: Mapping[int, Mapping[str, str]] = {
    1: {
        "chat_messages": """
CREATE TABLE IF NOT EXISTS {keyspace}.chat_messages (
    tenant_id uuid, conversation_id uuid, bucket int, seq int, id uuid, payload text,
    PRIMARY KEY ((tenant_id, conversation_id, bucket), seq, id)
) WITH CLUSTERING ORDER BY (seq ASC, id DESC) AND id = '{id}'
""",
        "chat_buckets": """
CREATE TABLE IF NOT EXISTS {keyspace}.chat_buckets (
    tenant_id uuid, conversation_id uuid, bucket int,
    PRIMARY KEY ((tenant_id, conversation_id), bucket)
) WITH id = '{id}'
""",
    }
}
_COMPACTION = (
    "SELECT compaction FROM system_schema.tables "
    "WHERE keyspace_name = %s AND table_name = 'chat_messages'"
)
_STATEMENT_S = 60.0
_AGREEMENT_S = 30
_BY_SIZE, _BY_TIME = "SizeTieredCompactionStrategy", "TimeWindowCompactionStrategy"
_WINDOWS = 30  # how many files a table with expiry aims at
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CqlSchemaOptions:
    """What the operator chooses when tables are made.

    Attributes:
        replication: Copies by data centre.
        keeps_for: Every message expires after at most so long; None: some never do.
        gateway: Name and password of an account that may read and write messages, and no more.
    """

    replication: Mapping[str, int]
    keeps_for: timedelta | None = None
    gateway: tuple[str, str] | None = None


def migrate(options: CqlOptions, chosen: CqlSchemaOptions) -> int:
    """Bring the keyspace to this version's schema, which blocks; to repeat it changes nothing.

    Returns:
        The version.

    Raises:
        Unavailable: The cluster does not answer, or its nodes do not agree on their schema.
        CqlRefused: It cannot hold so many copies, or does not let us create tables.
    """
    cluster = options.cluster()
    cluster.max_schema_agreement_wait = _AGREEMENT_S
    try:
        session = connected(cluster, options.local_dc)
        is_new = _TABLE not in _tables(session, options.keyspace)
        _create_keyspace(session, options.keyspace, chosen.replication)
        _create(session, _VERSIONS_TABLE, options.keyspace, "schema_migrations")
        for version, tables in _MIGRATIONS.items():
            for name, cql in tables.items():
                _create(session, cql, options.keyspace, name)
            _note(session, options.keyspace, version)
        _set_compaction(session, options.keyspace, chosen.keeps_for, is_new=is_new)
        if chosen.gateway is not None:
            _admit(session, options.keyspace, chosen.gateway)
    except Unauthorized as error:
        raise CqlRefused(
            f"CQL_USERNAME may not create tables and roles: {first_line(error)}"
        ) from error
    except DRIVER_ERRORS as error:
        raise Unavailable(first_line(error)) from error
    finally:
        cluster.shutdown()
    return CQL_SCHEMA_VERSION


def check_schema(session: Session, keyspace: str) -> None:
    """Refuse a keyspace without this version's tables; a newer one has them too.

    Raises:
        CqlRefused: It names both versions and the command that mends it.
    """
    cql = f"SELECT version FROM {keyspace}.schema_migrations"  # noqa: S608 (a checked name)
    try:
        found = max((row[0] for row in session.execute(cql, execution_profile=READ)), default=0)
    except InvalidRequest:  # no such keyspace, or table
        found = 0
    if found < CQL_SCHEMA_VERSION:
        raise CqlRefused(
            f"The chat log in {keyspace} is at schema {found}, this version needs "
            f"{CQL_SCHEMA_VERSION}: run `polyplane migrate`."
        )


def _create_keyspace(session: Session, keyspace: str, replication: Mapping[str, int]) -> None:
    known = keyspace in session.cluster.metadata.keyspaces
    if known:
        return
    hosts = session.cluster.metadata.all_hosts()
    for centre, copies in replication.items():
        nodes = sum(host.datacenter == centre for host in hosts)
        if nodes < copies:
            raise CqlRefused(
                f"{copies} copies of each message want as many nodes; {centre} has {nodes}. "
                'Set CQL_REPLICATION, for example {"' + centre + f'": {max(nodes, 1)}' + "}."
            )
    centres = "".join(f", '{centre}': {copies}" for centre, copies in replication.items())
    _change(
        session,
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} "
        f"WITH replication = {{'class': 'NetworkTopologyStrategy'{centres}}}",
    )
    _log.info("keyspace made", keyspace=keyspace, replication=dict(replication))


def _tables(session: Session, keyspace: str) -> set[str]:
    """Return the tables that a keyspace has already."""
    metadata = session.cluster.metadata.keyspaces.get(keyspace)
    return set(metadata.tables) if metadata is not None else set()


def _create(session: Session, cql: str, keyspace: str, table: str) -> None:
    table_id = uuid5(NAMESPACE_URL, f"polyplane:{keyspace}.{table}")
    _change(session, cql.format(keyspace=keyspace, id=table_id))


def _set_compaction(
    session: Session, keyspace: str, keeps_for: timedelta | None, *, is_new: bool
) -> None:
    """Keep what is written together in files that expire whole, where everything expires.

    Otherwise files are merged by size, so that what was deleted leaves the disks: a file of a
    closed window meets the deletions of later ones no more. Another strategy that an operator has
    given the table since it was made stays, as do all options.
    """
    wanted = {"class": _BY_SIZE}
    if keeps_for is not None:
        days = max(1, round(keeps_for / timedelta(days=_WINDOWS)))
        wanted = {
            "class": _BY_TIME,
            "compaction_window_unit": "DAYS",
            "compaction_window_size": str(days),
        }
    ((found,),) = session.execute(_COMPACTION, (keyspace,), execution_profile=READ)
    strategy = found["class"].rpartition(".")[2]
    is_ours = is_new or strategy in {_BY_SIZE, _BY_TIME}
    if is_ours and strategy != wanted["class"]:
        options = ", ".join(f"'{name}': '{value}'" for name, value in wanted.items())
        table = f"{keyspace}.chat_messages"
        _change(session, f"ALTER TABLE {table} WITH compaction = {{{options}}}")


def _admit(session: Session, keyspace: str, account: tuple[str, str]) -> None:
    """Make an account, or give the one that is there this password, and grant what it needs."""
    name, password = account
    quoted = password.replace("'", "''")  # such statements take no values
    for cql in (
        f"CREATE ROLE IF NOT EXISTS {name} WITH LOGIN = true",
        f"ALTER ROLE {name} WITH PASSWORD = '{quoted}' AND LOGIN = true",
        f"GRANT SELECT ON KEYSPACE {keyspace} TO {name}",
        f"GRANT MODIFY ON KEYSPACE {keyspace} TO {name}",
    ):
        session.execute(cql, timeout=_STATEMENT_S, execution_profile=WRITE)


def _note(session: Session, keyspace: str, version: int) -> None:
    session.execute(
        f"INSERT INTO {keyspace}.schema_migrations (version, applied_at) "  # noqa: S608 # nosec B608
        "VALUES (%s, toTimestamp(now()))",
        (version,),
        timeout=_STATEMENT_S,
        execution_profile=WRITE,
    )


def _change(session: Session, cql: str) -> None:
    """Change the schema, and wait until every node has it.

    Raises:
        Unavailable: They do not agree in time.
    """
    result = session.execute(cql, timeout=_STATEMENT_S, execution_profile=WRITE)
    if not result.response_future.is_schema_agreed:
        raise Unavailable("The nodes of the CQL cluster do not agree on their schema.")
