"""Where messages are kept for good: in PostgreSQL, or in a CQL cluster."""

import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from planes.shared.ports import ChatLog
from planes.shared.settings import AbsolutePath, SharedSettings
from planes.shared.stores.cql_retention import EVERY_PLAN, Retention
from planes.shared.stores.placed_chat_log import PlacedChatLog
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog

if TYPE_CHECKING:
    from planes.shared.stores.cql_cluster import CqlOptions
    from planes.shared.stores.scylla import ScyllaChatLog

POSTGRES, CQL = "postgres", "cql"
"""The kinds of chat logs."""
_LOOPBACK = ("127.", "localhost", "[::1]", "::1")
_PORT = 9042
_COPIES = 3
_LAST_EXPIRY = date(2038, 1, 18)  # Cassandra before 5.0 refuses to write what expires later
Days = Annotated[int, Field(ge=1)]
Copies = Annotated[int, Field(ge=1, le=9)]


class ChatLogSettings(SharedSettings):
    """`CQL_HOSTS` with what belongs to it; without, messages stay in the database.

    Where there are messages already, they stay and are joined until they are moved.
    """

    cql_hosts: Annotated[tuple[str, ...], NoDecode] = Field((), validation_alias="CQL_HOSTS")
    cql_keyspace: str = Field(
        "polyplane", validation_alias="CQL_KEYSPACE", pattern=r"^[a-z][a-z0-9_]{0,47}$"
    )
    cql_local_dc: str = Field(
        "datacenter1", validation_alias="CQL_LOCAL_DC", pattern=r"^[A-Za-z0-9_.-]{1,64}$"
    )
    cql_replication: dict[str, Copies] = Field(
        default_factory=dict, validation_alias="CQL_REPLICATION"
    )
    cql_username: str | None = Field(None, validation_alias="CQL_USERNAME")
    cql_password: SecretStr | None = Field(None, validation_alias="CQL_PASSWORD")
    cql_gateway_username: str | None = Field(
        None, validation_alias="CQL_GATEWAY_USERNAME", pattern=r"^[a-z][a-z0-9_]{0,47}$"
    )
    cql_gateway_password: SecretStr | None = Field(None, validation_alias="CQL_GATEWAY_PASSWORD")
    cql_tls: bool = Field(default=False, validation_alias="CQL_TLS")
    cql_tls_ca: AbsolutePath | None = Field(None, validation_alias="CQL_TLS_CA")
    cql_allow_plain: bool = Field(default=False, validation_alias="CQL_ALLOW_PLAIN")
    cql_deadline_s: float = Field(2.0, validation_alias="CQL_DEADLINE_S", ge=0.1, le=60)
    cql_max_in_flight: int = Field(256, validation_alias="CQL_MAX_IN_FLIGHT", ge=1, le=8192)
    cql_ttl_days: dict[str, Days] = Field(default_factory=dict, validation_alias="CQL_TTL_DAYS")

    @field_validator("cql_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("cql_ttl_days", mode="before")
    @classmethod
    def _for_every_plan(cls, value: object) -> object:
        return {EVERY_PLAN: value} if isinstance(value, int) else value

    @property
    def has_cql(self) -> bool:
        """Whether messages are kept in a CQL cluster."""
        return bool(self.cql_hosts)

    @property
    def chat_log(self) -> str:
        """The kind of log in which messages are, unless they are in another one already."""
        return CQL if self.has_cql else POSTGRES

    @property
    def kept_for_at_least(self) -> timedelta | None:
        """How long messages are kept, whatever a tenant's plan; None: for good."""
        days = self.cql_ttl_days.values()
        return timedelta(days=min(days)) if days else None

    @property
    def cql_is_plain(self) -> bool:
        """Whether the cluster is reached without TLS."""
        return not self.cql_tls and self.cql_tls_ca is None

    @model_validator(mode="after")
    def _check_chat_log(self) -> Self:
        if (self.cql_username is None) != (self.cql_password is None):
            raise ValueError("set both CQL_USERNAME and CQL_PASSWORD, or neither")
        if (self.cql_gateway_username is None) != (self.cql_gateway_password is None):
            raise ValueError("set both CQL_GATEWAY_USERNAME and CQL_GATEWAY_PASSWORD, or neither")
        if self.cql_ttl_days and not self.has_cql:
            raise ValueError("CQL_TTL_DAYS wants CQL_HOSTS: the database keeps messages for good")
        most_days = (_LAST_EXPIRY - datetime.now(UTC).date()).days
        if max(self.cql_ttl_days.values(), default=0) > most_days:
            raise ValueError(
                f"CQL_TTL_DAYS is at most {most_days} today: CQL servers may keep no expiry after "
                "2038-01-18. Leave the plan out to keep its messages for good"
            )
        ports = {port for _, port in map(_host_and_port, self.cql_hosts)}
        if len(ports) > 1:
            raise ValueError("CQL_HOSTS names several ports; all nodes listen on the same")
        is_remote = any(not host.startswith(_LOOPBACK) for host in self.cql_hosts)
        if is_remote and self.cql_is_plain and not self.cql_allow_plain:
            raise ValueError(
                "the CQL cluster is reached without encryption: set CQL_TLS=true, or "
                "CQL_ALLOW_PLAIN=true where the network is trusted"
            )
        return self


@asynccontextmanager
async def open_chat_log(settings: ChatLogSettings, database: Database) -> AsyncIterator[ChatLog]:
    """Open the chat log, which is where the database says, else where the settings say.

    A cluster that is away may come later.

    Raises:
        CqlRefused: The cluster answers but cannot serve; the message says what to set or run.
    """
    async with AsyncExitStack() as stack:
        logs: dict[str, ChatLog] = {POSTGRES: PostgresChatLog(database)}
        if settings.has_cql:
            logs[CQL] = await stack.enter_async_context(open_cql_log(settings, database))
        yield PlacedChatLog(database, logs, default=settings.chat_log)


@asynccontextmanager
async def open_cql_log(
    settings: ChatLogSettings, database: Database
) -> AsyncIterator["ScyllaChatLog"]:
    """Open the chat log in the cluster of the settings, wherever messages are read.

    Raises:
        CqlRefused: The cluster answers but cannot serve; the message says what to set or run.
    """
    # The driver is 20 MB that the database's own log does not need.
    from planes.shared.stores.cql_session import CqlSession
    from planes.shared.stores.scylla import QUERIES, ScyllaChatLog

    session = CqlSession(cql_options(settings), QUERIES)
    try:
        await session.open()
        yield ScyllaChatLog(session, Retention(database, settings.cql_ttl_days).keeps_for)
    finally:
        await session.close()


def migrate_chat_log(settings: ChatLogSettings) -> int | None:
    """Bring the cluster's keyspace to this version's schema, which blocks; to repeat it is safe.

    Returns:
        The schema's version; None: there is no cluster, and nothing to do.

    Raises:
        Unavailable: The cluster does not answer.
        CqlRefused: It cannot serve; the message says what to set.
    """
    if not settings.has_cql:
        return None
    from planes.shared.stores.cql_schema import CqlSchemaOptions, migrate

    replication = settings.cql_replication or {settings.cql_local_dc: _COPIES}
    days = settings.cql_ttl_days
    keeps_for = timedelta(days=max(days.values())) if EVERY_PLAN in days else None
    gateway = None
    if settings.cql_gateway_username and settings.cql_gateway_password:
        gateway = settings.cql_gateway_username, settings.cql_gateway_password.get_secret_value()
    return migrate(cql_options(settings), CqlSchemaOptions(replication, keeps_for, gateway))


def cql_options(settings: ChatLogSettings) -> "CqlOptions":
    """Return how the cluster of the settings is reached."""
    from planes.shared.stores.cql_cluster import CqlOptions

    hosts, ports = zip(*map(_host_and_port, settings.cql_hosts), strict=True)
    credentials = None
    if settings.cql_username and settings.cql_password:
        credentials = settings.cql_username, settings.cql_password.get_secret_value()
    tls = None if settings.cql_is_plain else ssl.create_default_context(cafile=settings.cql_tls_ca)
    return CqlOptions(
        hosts=hosts,
        port=ports[0],
        keyspace=settings.cql_keyspace,
        local_dc=settings.cql_local_dc,
        credentials=credentials,
        tls=tls,
        deadline_s=settings.cql_deadline_s,
        max_in_flight=settings.cql_max_in_flight,
    )


def _host_and_port(text: str) -> tuple[str, int]:
    """Return the parts of `host`, `host:port` or `[address]:port`.

    Raises:
        ValueError: The port is no number.
    """
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.startswith("[")):
        return text.strip("[]"), _PORT
    if not port.isdecimal():
        raise ValueError(f"CQL_HOSTS: {text} has no port after its colon")
    return host.strip("[]"), int(port)
