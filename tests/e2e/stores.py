"""The stores of server mode: servers of the tests' own, which are killed, frozen and come back.

PostgreSQL and Redis are configured as in embedded mode, Cassandra syncs its commit log before it
answers, FerretDB commits to a PostgreSQL of its own, and versitygw is a server over a folder: so
each keeps what it has acknowledged, as `docs/stores.md` asks of those that are used.
"""

import signal
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from secrets import token_hex
from typing import Protocol, Self

from planes.shared.stores.chat_log_settings import ChatLogSettings
from services.embedded.ports import free_port
from services.embedded.postgres import DAGSTER_ROLE, SERVICE_ROLES
from services.embedded.schema import create_database, owner_connection
from tests.servers import cassandra, ferretdb, s3
from tests.servers.cassandra import CassandraServer
from tests.servers.cql_fixtures import migrate_when_ready
from tests.servers.embedded import OwnPostgres, OwnRedis
from tests.servers.ferretdb import FerretServer
from tests.servers.mongo_search import SearchServer
from tests.servers.s3 import S3Server

_BUCKET, _PREFIX = "bucket", "platform"
_BEHIND = "ferretdb"


class Store(Protocol):
    """A server with all its processes."""

    def start(self) -> None:
        """Start it, on the port and the data that it had; do not wait until it answers."""
        ...

    def wait_until_open(self) -> None:
        """Wait until it takes connections."""
        ...

    def has_ended(self) -> bool:
        """Whether it is not running."""
        ...

    def kill(self) -> None:
        """SIGKILL to every process."""
        ...

    def freeze(self) -> None:
        """SIGSTOP to every process."""
        ...

    def go_on(self) -> None:
        """SIGCONT to every process."""
        ...

    def end(self) -> int:
        """Ask it to end, and wait."""
        ...


class MongoServer:
    """FerretDB with the PostgreSQL that it keeps everything in, which fail together."""

    def __init__(self, folder: Path) -> None:
        """Make the data of the server behind."""
        self._behind = OwnPostgres(folder / "behind")
        url = self._behind.settings.url(_BEHIND)
        self._front = FerretServer(folder / "ferretdb", free_port(), url)
        self.url = self._front.url

    def start(self) -> None:
        """Start both; the one behind has to be open first."""
        self._behind.start()
        self._behind.wait_until_open()
        with owner_connection(self._behind.settings.url("postgres")) as connection:
            create_database(connection, _BEHIND)
        self._front.start()

    def wait_until_open(self) -> None:
        """Wait until it takes connections."""
        self._front.wait_until_open()

    def has_ended(self) -> bool:
        """Whether it is not running."""
        return self._front.has_ended()

    def kill(self) -> None:
        """SIGKILL to both, the one that is asked first."""
        self._front.kill()
        self._behind.kill()

    def freeze(self) -> None:
        """SIGSTOP to both."""
        self._front.freeze()
        self._behind.freeze()

    def go_on(self) -> None:
        """SIGCONT to both."""
        self._behind.go_on()
        self._front.go_on()

    def end(self) -> int:
        """End both."""
        status = self._front.end()
        self._behind.end(signal.SIGINT)
        return status


def missing() -> str | None:
    """Return why these servers cannot be had here; None: they can."""
    return cassandra.missing() or ferretdb.missing() or s3.missing()


class GivenStores:
    """All of them, by name, with data that outlives their deaths.

    Attributes:
        servers: Those that a drill may kill and freeze.
        files: The folder in which the server of the objects keeps those of the platform.
    """

    def __init__(self, folder: Path) -> None:
        """Fetch or build what is missing, and write their configurations."""
        for program in (cassandra.fetch, ferretdb.build, s3.build):
            program()
        self._postgres = OwnPostgres(folder / "postgres")
        self._redis = OwnRedis(folder / "redis")
        self._s3 = S3Server(folder / "s3", free_port())
        self._cassandra = CassandraServer(
            folder / "cassandra", port=free_port(), storage_port=free_port()
        )
        self._mongo = MongoServer(folder / "mongo")
        self._search = SearchServer(folder / "search", free_port(), self._mongo.url)
        self.servers: Mapping[str, Store] = {
            "postgres": self._postgres,
            "redis": self._redis,
            "s3": self._s3,
            "cassandra": self._cassandra,
            "mongo": self._mongo,
        }
        self.files = self._s3.bucket / _PREFIX
        self._passwords = {role: token_hex(16) for role in (*SERVICE_ROLES, DAGSTER_ROLE)}
        self._started = ExitStack()

    def __enter__(self) -> Self:
        """Start all, and wait until they answer."""
        self._cassandra.make_certificate()
        for server in reversed([*self.servers.values(), self._search]):  # the slowest begin
            self._started.callback(server.kill)
            if server is not self._search:
                server.start()
        self._mongo.wait_until_open()
        self._search.start()
        for server in (*self.servers.values(), self._search):
            server.wait_until_open()
        migrate_when_ready(self._chat_log)  # a new Cassandra lets nobody in at first
        return self

    def __exit__(self, *_: object) -> None:
        """Kill them; nobody needs their data."""
        self._started.close()

    @property
    def _chat_log(self) -> ChatLogSettings:
        told = self.environment(is_exact=True)
        return ChatLogSettings.of({**told, "CQL_KEYSPACE": "another"})

    def environment(self, *, is_exact: bool) -> dict[str, str]:
        """Return the variables that tell a platform where they are.

        Args:
            is_exact: Whether chunks are searched exactly; otherwise by the double of MongoDB's
                search.
        """
        redis = self._redis.settings
        return {
            "POLYPLANE_MODE": "server",
            "DATABASE_OWNER_URL": self._postgres.settings.url("postgres"),
            **{f"{role.upper()}_PASSWORD": word for role, word in self._passwords.items()},
            "REDIS_URL": redis.url(),
            "SERVING_REDIS_URL": redis.serving_url(),
            "DATA_REDIS_URL": redis.data_url(),
            "S3_BUCKET": _BUCKET,
            "S3_PREFIX": _PREFIX,
            "S3_ENDPOINT": self._s3.url,
            "S3_ACCESS_KEY_ID": s3.ACCESS_KEY,
            "S3_SECRET_ACCESS_KEY": s3.SECRET_KEY,
            "CQL_HOSTS": self._cassandra.address,
            "CQL_USERNAME": cassandra.USERNAME,
            "CQL_PASSWORD": cassandra.PASSWORD,
            "CQL_REPLICATION": '{"datacenter1": 1}',
            "CQL_TLS_CA": str(self._cassandra.certificate),
            "MONGO_URL": self._mongo.url if is_exact else self._search.url,
            "MONGO_EXACT_SEARCH": str(is_exact).lower(),
        }


def folder_for_servers() -> tempfile.TemporaryDirectory[str]:
    """Return a temporary folder that `nobody` can pass through, removed by its context."""
    folder = tempfile.TemporaryDirectory(prefix="polyplane-stores-", ignore_cleanup_errors=True)
    Path(folder.name).chmod(0o711)
    return folder
