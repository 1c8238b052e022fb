"""Redis as it is laid out elsewhere: under a sentinel, as a cluster, with TLS, with users."""

import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import redis

from services.embedded.binaries import redis_server
from tests.servers import debian
from tests.servers.processes import OwnServer

SERVICE = "mymaster"
_CONFIGURATION = """\
bind 127.0.0.1
dir "{folder}"
appendonly no
save ""
repl-diskless-sync yes
repl-diskless-sync-delay 0
"""


class RedisServer(OwnServer):
    """One server on loopback, without a password unless `lines` set one."""

    def __init__(
        self,
        folder: Path,
        port: int,
        lines: Sequence[str] = (),
        *,
        program: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Write its configuration."""
        folder.mkdir(parents=True)
        self.port = port
        path = folder / "redis.conf"
        own = [] if any(line.startswith("port 0") for line in lines) else [f"port {port}"]
        path.write_text(
            "\n".join([_CONFIGURATION.format(folder=folder), *own, *lines, ""]), "utf-8"
        )
        is_sentinel = any(line.startswith("sentinel ") for line in lines)
        super().__init__(
            [str(program or redis_server()), str(path), *(["--sentinel"] if is_sentinel else [])],
            folder=folder,
            log=folder / "redis.log",
            environment=environment or {"LC_ALL": "C.UTF-8"},
        )

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def ask(self, *command: str | int) -> object:
        """Run one command."""
        with redis.Redis(port=self.port, socket_timeout=5) as client:
            return client.execute_command(*command)

    def wait_until_open(self) -> None:
        """Wait until it takes connections."""
        wait_for(lambda: bool(self.ask("PING")))

    def wait_for_port(self) -> None:
        """Wait until it listens, where only some users or TLS may ask."""

        def listens() -> bool:
            with socket.create_connection(("127.0.0.1", self.port), 1):
                return True

        wait_for(listens)


def redis_version(program: Path) -> str:
    """Return what a server's program says of itself: `Redis 6.2.14`."""
    environment = debian.environment(debian.root("redis-server"))
    told = subprocess.run(
        [str(program), "--version"], check=True, capture_output=True, text=True, env=environment
    )
    return f"Redis {told.stdout.partition('v=')[2].split()[0]}"


def wait_for(is_true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is so; a server that does not answer yet is no answer.

    Raises:
        TimeoutError: It is not within so many seconds.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(redis.RedisError, OSError):
            if is_true():
                return
        time.sleep(0.05)
    raise TimeoutError("Redis is not so in time")


class Guarded:
    """A master, its replica, and a sentinel that fails over alone (quorum 1)."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        """Store three servers, on three ports."""
        first, second, third = ports
        self.master = RedisServer(folder / "master", first)
        self.replica = RedisServer(folder / "replica", second, [f"replicaof 127.0.0.1 {first}"])
        self.sentinel = RedisServer(
            folder / "sentinel",
            third,
            [
                f"sentinel monitor {SERVICE} 127.0.0.1 {first} 1",
                f"sentinel down-after-milliseconds {SERVICE} 1000",
                f"sentinel failover-timeout {SERVICE} 4000",
            ],
        )

    @property
    def servers(self) -> list[RedisServer]:
        """All of them."""
        return [self.master, self.replica, self.sentinel]

    @property
    def url(self) -> str:
        """The address of the service."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"

    def start(self) -> None:
        """Start them, and wait until the sentinel knows the replica."""
        for server in self.servers:
            server.start()
            server.wait_until_open()
        self._await_replica()

    def _await_replica(self) -> None:
        def is_known() -> bool:
            replicas = self.sentinel.ask("SENTINEL", "replicas", SERVICE)
            assert isinstance(replicas, list)
            state = self.replica.ask("INFO", "replication")
            assert isinstance(state, dict)
            return len(replicas) == 1 and state["master_link_status"] == "up"

        wait_for(is_known)

    def has_failed_over(self) -> bool:
        """Whether the replica is the master."""
        state = self.replica.ask("INFO", "replication")
        assert isinstance(state, dict)
        return bool(state["role"] == "master")

    def stop(self) -> None:
        """Stop them."""
        for server in self.servers:
            server.end()


class Cluster:
    """Three masters, and a replica of the first."""

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        """Store four servers, on four ports, none above 55535: the next 10,000 is theirs too."""
        self.nodes = [
            RedisServer(
                folder / f"node-{port}",
                port,
                [
                    "cluster-enabled yes",
                    "cluster-node-timeout 5000",
                    "cluster-replica-validity-factor 0",
                ],
            )
            for port in ports
        ]

    @property
    def master(self) -> RedisServer:
        """The one that has a replica."""
        return self.nodes[0]

    @property
    def replica(self) -> RedisServer:
        """Its replica."""
        return self.nodes[3]

    @property
    def url(self) -> str:
        """The address, by two of its nodes."""
        some = ",".join(f"127.0.0.1:{each.port}" for each in self.nodes[:2])
        return f"redis+cluster://{some}"

    def start(self) -> None:
        """Start the nodes, make them one cluster and wait until it takes commands."""
        for node in self.nodes:
            node.start()
            node.wait_until_open()
        masters, replica = self.nodes[:3], self.nodes[3]
        for index, node in enumerate(masters):
            slots = range(index * 16384 // 3, (index + 1) * 16384 // 3)
            node.ask("CLUSTER", "ADDSLOTS", *slots)  # ADDSLOTSRANGE is of Redis 7
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", masters[0].port)
        wait_for(lambda: all(self._known(node) == len(self.nodes) for node in self.nodes))
        first = masters[0].ask("CLUSTER", "MYID")
        assert isinstance(first, bytes)
        wait_for(lambda: bool(replica.ask("CLUSTER", "REPLICATE", first.decode())))
        wait_for(lambda: all(self._is_whole(node) for node in self.nodes))
        wait_for(lambda: self._is_copied(replica))

    @staticmethod
    def _known(node: RedisServer) -> int:
        state = node.ask("CLUSTER INFO")
        assert isinstance(state, dict)
        return int(state["cluster_known_nodes"])

    @staticmethod
    def _is_whole(node: RedisServer) -> bool:
        state = node.ask("CLUSTER INFO")
        assert isinstance(state, dict)
        return bool(state["cluster_state"] == "ok")

    @staticmethod
    def _is_copied(replica: RedisServer) -> bool:
        state = replica.ask("INFO", "replication")
        assert isinstance(state, dict)
        return bool(state["role"] == "slave" and state["master_link_status"] == "up")

    def has_failed_over(self) -> bool:
        """Whether the replica is a master, and the cluster takes commands."""
        state = self.nodes[3].ask("INFO", "replication")
        assert isinstance(state, dict)
        return bool(state["role"] == "master") and self._is_whole(self.nodes[3])

    def stop(self) -> None:
        """Stop them."""
        for node in self.nodes:
            node.end()
