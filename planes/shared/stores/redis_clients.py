"""One place that makes clients of Redis: of one server, of a master under Sentinel, of a cluster.

All three have the commands that the platform uses, so that its code knows one kind of client. The
keys of one script or transaction share a hash tag, as a cluster demands.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode, _ClusterNodePoolAdapter
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from planes.shared.deadlines import answer_within
from planes.shared.stores.redis_address import RedisAddress, RedisKind, RedisLogin
from planes.shared.stores.redis_connections import (
    MasterConnection,
    PlainConnection,
    TlsConnection,
    TlsMasterConnection,
)

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""What a call to Redis raises where there is no answer to rely on."""

SILENCE_S = 1.0
"""After which a subscription counts as dead."""

_BEAT_S = 0.25  # between signs of life
_WAIT_S = 3.0
_SENTINEL_WAIT_S = 0.3  # one that hangs is passed over within a script's second, and so is
_NODE_WAIT_S = 0.5  # a node of a cluster: then another one says how it is laid out now
_NODE_CONNECTIONS = 1024  # transactions and subscriptions do not wait for their turn
_REDIRECTIONS = 5  # of commands to other nodes, before the whole layout is looked at again


def redis_client(
    url: str, login: RedisLogin | None = None, *, max_connections: int = 64, wait_s: float = _WAIT_S
) -> Redis:
    """Return a client that connects at its first call, with a deadline on every wait.

    Args:
        url: As `RedisAddress.parse` takes it.
        login: What the URL does not say.
        max_connections: Upper bound of its pool (in a cluster: of commands at once); more callers
            wait for a free one.
        wait_s: For a free connection, and for a server to answer (in a cluster less).

    Raises:
        ValueError: The URL is none of Redis.
    """
    address, login = RedisAddress.parse(url), login or RedisLogin()
    options = address.options(login) | {"driver_info": None}  # two round trips fewer to connect
    if address.kind is RedisKind.CLUSTER:
        return cast("Redis", _Cluster(address, options, max_connections))
    options |= {
        "socket_timeout": wait_s,
        "socket_connect_timeout": wait_s,
        "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
        "max_connections": max_connections,
        "timeout": wait_s,
    }
    if address.kind is RedisKind.SENTINEL:
        waits = {"socket_timeout": _SENTINEL_WAIT_S, "socket_connect_timeout": _SENTINEL_WAIT_S}
        of_sentinels = address.sentinel_options(login) | waits
        return _under_sentinels(address, of_sentinels, options)
    is_tls = options.pop("ssl", False)
    options["connection_class"] = TlsConnection if is_tls else PlainConnection
    host, port = address.nodes[0]
    return Redis.from_pool(BlockingConnectionPool(host=host, port=port, **options))


def _under_sentinels(
    address: RedisAddress, of_sentinels: dict[str, Any], options: dict[str, Any]
) -> Redis:
    is_tls = options.pop("ssl", False)
    options["connection_class"] = TlsMasterConnection if is_tls else MasterConnection
    sentinel = Sentinel(list(address.nodes), sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
    pool = _SentinelPool(address.service, sentinel, **options)  # type: ignore[no-untyped-call]
    return Redis.from_pool(pool)


@asynccontextmanager
async def subscribed(redis: Redis, channel: str) -> AsyncIterator[PubSub]:
    """Hear a channel on a connection of its own; to be entered again when it breaks.

    In a cluster every node tells every message. It is another one each time, since the last may be
    gone.

    Raises:
        One of `REDIS_ERRORS`: No server answers.
    """
    if isinstance(redis, _Cluster):
        await redis.execute_command("PING", target_nodes=redis.DEFAULT_NODE)  # finds nodes anew
        subscription: PubSub = redis.pubsub(node=redis.get_random_node())
    else:
        subscription = redis.pubsub()
    async with subscription:
        await subscription.subscribe(channel)
        yield subscription


async def heard(subscription: PubSub) -> AsyncIterator[dict[str, Any]]:
    """Yield what a subscription brings, answers to its pings too, until it breaks.

    The driver may renew the connection, and subscribes anew then: before a message of the type
    `subscribe` some may have been missed.

    Raises:
        One of `REDIS_ERRORS`: It broke, or nothing came for a second, not even an answer to a ping.
    """
    heard_at = time.monotonic()
    while True:
        message = await subscription.get_message(timeout=_BEAT_S)
        if message is not None:
            heard_at = time.monotonic()
            yield message
            continue
        if time.monotonic() - heard_at > SILENCE_S:
            raise RedisConnectionError("no sign of life")
        await subscription.ping()


async def info_of_masters(redis: Redis, section: str) -> list[dict[str, Any]]:
    """Return a section of INFO of each server that takes writes.

    Raises:
        One of `REDIS_ERRORS`: A server does not answer.
    """
    if not isinstance(redis, _Cluster):
        return [await redis.info(section)]
    await redis.initialize()
    nodes = redis.get_primaries()
    return [await redis.info(section, target_nodes=node) for node in nodes]


async def node_of(redis: Redis, key: str) -> Redis:
    """Return a client for transactions on keys that share the hash tag of `key`.

    In a cluster it is one of the node that holds them now: where they move meanwhile, the
    transaction fails and may be repeated with another client.

    Raises:
        One of `REDIS_ERRORS`: No server answers.
    """
    if not isinstance(redis, _Cluster):
        return redis
    await redis.exists(key)  # finds the node anew, where it was another one
    return Redis.from_pool(_ClusterNodePoolAdapter(redis.get_node_from_key(key)))


def is_cluster(redis: Redis) -> bool:
    """Tell whether a client is one of a cluster."""
    return isinstance(redis, _Cluster)


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Connections to the master of now; callers wait for a free one."""

    async def aclose(self) -> None:
        """Close the connections, those to sentinels too."""
        await super().aclose()
        await self.sentinel_manager.aclose()


class _Cluster(RedisCluster):
    """A cluster, of which at most so many commands are asked at once.

    The driver looks how the cluster is laid out now after an error, and not after it was cancelled,
    which is what callers with a deadline do. So a node has a shorter one, kept here.

    A connection that breaks has its command asked again, and a script may have counted by then. So
    none is broken without need: the driver closes all of them after some redirections, of which its
    first commands bring many where they are asked together, before it knows any node.
    """

    def __init__(self, address: RedisAddress, options: dict[str, Any], max_commands: int) -> None:
        """Store the nodes to begin with."""
        super().__init__(
            startup_nodes=[ClusterNode(host, port) for host, port in address.nodes],
            require_full_coverage=False,
            retry=Retry(NoBackoff(), 1),
            reinitialize_steps=0,
            max_connections=_NODE_CONNECTIONS,
            socket_timeout=_WAIT_S,
            socket_connect_timeout=_WAIT_S,
            **options,
        )
        connection_class = TlsConnection if options.get("ssl") else PlainConnection
        self.connection_kwargs["connection_class"] = connection_class
        for node in self.nodes_manager.startup_nodes.values():
            node.connection_class = connection_class
        self._turns = asyncio.Semaphore(max_commands)

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Run one command when it is its turn."""
        async with self._turns:
            if self.get_default_node() is None:
                await self.initialize()
            return await super().execute_command(*args, **kwargs)

    async def aclose(self) -> None:
        """Close all connections, also those to nodes that are about to be looked for anew."""
        self._initialize = False
        await super().aclose()

    async def _execute_command(self, target_node: ClusterNode, *args: Any, **kwargs: Any) -> Any:
        try:
            async with answer_within(_NODE_WAIT_S):
                answer = await super()._execute_command(target_node, *args, **kwargs)
        except TimeoutError as error:  # perhaps it was carried out: not to be asked again
            await self.nodes_manager.initialize(last_failed_node_name=target_node.name)
            raise _NodeHangs(f"{target_node.name} does not answer") from error
        except AttributeError as error:
            if error.obj is not None:
                raise
            # an error of another call has just closed the connection, and its stream is None
            self._initialize = True
            raise RedisConnectionError(f"the connection to {target_node.name} is gone") from error
        if self.reinitialize_counter >= _REDIRECTIONS:
            self.reinitialize_counter = 0
            self._initialize = True  # at the next command; what is under way keeps its connection
        return answer


class _NodeHangs(RedisTimeoutError):
    """The driver repeats what ended with its own errors, and not with those derived from them."""
