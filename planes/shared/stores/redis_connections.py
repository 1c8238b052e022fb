"""Connections to Redis whose commands can be cancelled at any moment."""

import asyncio
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.exceptions import TimeoutError as RedisTimeoutError


class _CancellableSends(AbstractConnection):
    """Sends without `asyncio.wait_for`, what hiredis packs.

    Before Python 3.12 that swallows a cancellation which arrives in the moment when what it waits
    for ends (python/cpython#86296). redis-py bounds every send by it: a timeout, or the end of a
    task, that fell into a send was lost, and what it should have ended went on for ever.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Return a command as it is sent; what hiredis does not know is packed by the driver."""
        name, *values = args
        try:
            return [hiredis.pack_command((*name.encode().split(), *values))]
        except (TypeError, AttributeError):
            return super().pack_command(*args)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send a command.

        Raises:
            redis.exceptions.TimeoutError: It was not taken within `socket_timeout`.
        """
        wait_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(wait_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError as error:
            raise RedisTimeoutError("Timeout writing to socket") from error
        finally:
            self.socket_timeout = wait_s


class PlainConnection(_CancellableSends, Connection):
    """Over TCP."""


class TlsConnection(_CancellableSends, SSLConnection):
    """Over TLS."""


class MasterConnection(_CancellableSends, SentinelManagedConnection):
    """Over TCP, to the master that sentinels name."""


class TlsMasterConnection(_CancellableSends, SentinelManagedSSLConnection):
    """Over TLS, to the master that sentinels name."""
