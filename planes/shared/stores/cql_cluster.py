"""How a CQL cluster is reached."""

import ssl
from dataclasses import dataclass

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    DriverException,
    UnresolvableContactPoints,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.connection import ConnectionException
from cassandra.policies import (
    ConstantSpeculativeExecutionPolicy,
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    NoSpeculativeExecutionPolicy,
    SpeculativeExecutionPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from planes.shared.errors import Unavailable

READ, WRITE = "read", "write"
DRIVER_ERRORS = (DriverException, NoHostAvailable, ConnectionException)
_PROTOCOL = 4  # the newest that ScyllaDB and Cassandra share
_CONNECT_S = 5.0
_HEARTBEAT_S, _HEARTBEAT_ANSWER_S = 10, 5
_RECONNECT_S = (1.0, 10.0)  # the first and the longest pause


class CqlRefused(RuntimeError):
    """The cluster answers but cannot serve; the message says what to set or run."""


@dataclass(frozen=True, slots=True)
class CqlOptions:
    """A cluster, a keyspace in it, and how to wait for them.

    Attributes:
        hosts: Of some nodes; the others are found through them.
        port: Of every node.
        keyspace: Where the platform's tables are.
        local_dc: The data centre whose nodes are asked, and make the quorum.
        credentials: A name and a password; None: the cluster asks for none.
        tls: None: connections are not encrypted.
        deadline_s: How long one statement may take.
        max_in_flight: How many statements are on their way at once.
    """

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    local_dc: str
    credentials: tuple[str, str] | None = None
    tls: ssl.SSLContext | None = None
    deadline_s: float = 2.0
    max_in_flight: int = 256

    def cluster(self) -> Cluster:
        """Return the driver for this cluster, not yet connected.

        Reads go to a second node where the first is slow; writes never do, so that a cluster that
        is busy does not get them twice.

        Raises:
            Unavailable: No name of a host can be resolved.
        """
        policy = TokenAwarePolicy(DCAwareRoundRobinPolicy(self.local_dc))
        second = ConstantSpeculativeExecutionPolicy(delay=self.deadline_s / 10, max_attempts=1)

        def profile(speculation: SpeculativeExecutionPolicy) -> ExecutionProfile:
            return ExecutionProfile(
                load_balancing_policy=policy,
                consistency_level=ConsistencyLevel.LOCAL_QUORUM,
                request_timeout=self.deadline_s,
                row_factory=tuple_factory,
                speculative_execution_policy=speculation,
            )

        try:
            return Cluster(
                contact_points=list(self.hosts),
                port=self.port,
                protocol_version=_PROTOCOL,
                auth_provider=PlainTextAuthProvider(*self.credentials)
                if self.credentials
                else None,
                ssl_context=self.tls,
                connect_timeout=_CONNECT_S,
                control_connection_timeout=_CONNECT_S,
                idle_heartbeat_interval=_HEARTBEAT_S,
                idle_heartbeat_timeout=_HEARTBEAT_ANSWER_S,
                reconnection_policy=ExponentialReconnectionPolicy(*_RECONNECT_S),
                execution_profiles={
                    READ: profile(second),
                    WRITE: profile(NoSpeculativeExecutionPolicy()),
                },
                application_name="polyplane",
            )
        except UnresolvableContactPoints as error:
            raise Unavailable(first_line(error)) from error


def connected(cluster: Cluster, local_dc: str) -> Session:
    """Connect, which blocks.

    Raises:
        Unavailable: The cluster does not answer.
        CqlRefused: It does not let us in, or has no such data centre.
    """
    try:
        session = cluster.connect()
    except DRIVER_ERRORS as error:
        if any(isinstance(cause, AuthenticationFailed) for cause in _causes(error)):
            raise CqlRefused(
                "The CQL cluster does not let us in: set CQL_USERNAME and CQL_PASSWORD."
            ) from error
        raise Unavailable(first_line(error)) from error
    centres = sorted({str(host.datacenter) for host in cluster.metadata.all_hosts()})
    if local_dc not in centres:
        raise CqlRefused(
            f"CQL_LOCAL_DC is {local_dc}; the cluster's data centres are {', '.join(centres)}."
        )
    return session


def _causes(error: Exception) -> list[object]:
    """Return what each host said, which the driver tells by host, or of all at once as a list."""
    causes = getattr(error, "errors", {})
    return list(causes.values() if isinstance(causes, dict) else causes)


def first_line(error: Exception) -> str:
    """Return the beginning of what the driver says."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0][:300]
