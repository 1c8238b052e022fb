"""Redis from the system or a Python package: configured, not yet running."""

import asyncio
import contextlib
import hashlib
from pathlib import Path

from services.embedded.binaries import redis_server

_CONFIGURATION = """\
bind 127.0.0.1
protected-mode yes
daemonize no
dir "{folder}"
port {port}
requirepass {password}
user serving on #{serving_digest} resetkeys ~cache:* resetchannels +@all \
-@admin -@dangerous -@scripting -scan -randomkey +info
user data on #{data_digest} resetkeys ~cache:* resetchannels +@all \
-@admin -@dangerous -@scripting -scan -randomkey
appendonly yes
appendfsync everysec
auto-aof-rewrite-min-size 16mb
save ""
maxmemory 256mb
maxmemory-policy noeviction
tcp-backlog 128
"""


class Redis:
    """One Redis server in one folder."""

    def __init__(
        self, folder: Path, *, port: int, password: str, serving_password: str, data_password: str
    ) -> None:
        """Store where and how; `prepare` writes, nothing starts.

        Args:
            folder: Holds the append-only file and the configuration.
            port: On loopback.
            password: Of the default user, which the gateway is.
            serving_password: Of the user `serving`, which may touch `cache:*` alone.
            data_password: Of the user `data`, which may do the same, to remove what was deleted.
        """
        self._folder = folder
        self._port = port
        self._password = password
        self._serving_password = serving_password
        self._data_password = data_password

    @property
    def folder(self) -> Path:
        """The working directory."""
        return self._folder

    def prepare(self) -> None:
        """Write the configuration; passwords stand in it and not on the command line."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / "redis.conf"
        path.touch(mode=0o600)
        path.write_text(
            _CONFIGURATION.format(
                folder=self._folder,
                port=self._port,
                password=self._password,
                serving_digest=_digest(self._serving_password),
                data_digest=_digest(self._data_password),
            ),
            "utf-8",
        )

    def command(self) -> list[str]:
        """Return the command line; SIGTERM stops it cleanly.

        Raises:
            BinaryMissing: There is no `redis-server`.
        """
        return [str(redis_server()), str(self._folder / "redis.conf")]

    def environment(self) -> dict[str, str]:
        """Return all that its environment needs."""
        return {"LC_ALL": "C.UTF-8"}

    def url(self) -> str:
        """Return the address for the gateway, who may do everything."""
        return f"redis://:{self._password}@127.0.0.1:{self._port}/0"

    def serving_url(self) -> str:
        """Return the address for the serving plane, who may touch caches alone."""
        return f"redis://serving:{self._serving_password}@127.0.0.1:{self._port}/0"

    def data_url(self) -> str:
        """Return the address for the data plane, who may touch caches alone."""
        return f"redis://data:{self._data_password}@127.0.0.1:{self._port}/0"

    async def is_ready(self) -> bool:
        """Tell whether it answers, with its data loaded."""
        try:
            async with asyncio.timeout(2):
                return await self._ping()
        except (OSError, TimeoutError, EOFError):
            return False

    async def _ping(self) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            return [await reader.readline(), await reader.readline()] == [b"+OK\r\n", b"+PONG\r\n"]
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()
