"""The servers of the embedded platform, in the hands of a test that kills and freezes them."""

import asyncio
import os
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import Postgres
from services.embedded.redis import Redis
from tests.servers.processes import OwnServer

_OPEN_S = 300


class OwnPostgres(OwnServer):
    """A PostgreSQL as the embedded platform runs it: what it has committed, it keeps."""

    def __init__(self, folder: Path) -> None:
        """Make its data, in a folder that `nobody` can reach."""
        port = free_port()
        self.settings = Postgres(folder, port=port, owner_password=secrets.token_hex(16))
        self.settings.prepare()
        self.address = ("127.0.0.1", port)
        super().__init__(
            self.settings.command(),
            folder=folder,
            log=folder.with_name(f"{folder.name}.log"),
            environment=self.settings.environment(),
            account=identity(unprivileged_account()),
        )

    def wait_until_open(self) -> None:
        """Wait until it has recovered and takes connections."""
        _wait_until(self.settings.is_ready, "PostgreSQL")

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it fast and cleanly."""
        return super().end(number)


class OwnRedis(OwnServer):
    """A Redis as the embedded platform runs it: its log is written before it answers."""

    def __init__(self, folder: Path) -> None:
        """Write its configuration."""
        port = free_port()
        self.settings = Redis(
            folder,
            port=port,
            password=secrets.token_hex(16),
            serving_password=secrets.token_hex(16),
            data_password=secrets.token_hex(16),
        )
        self.settings.prepare()
        self.address = ("127.0.0.1", port)
        super().__init__(
            self.settings.command(),
            folder=folder,
            log=folder.with_name(f"{folder.name}.log"),
            environment={**os.environ, **self.settings.environment()},
        )

    def wait_until_open(self) -> None:
        """Wait until it has read its log and answers."""
        _wait_until(self.settings.is_ready, "Redis")


def _wait_until(is_ready: Callable[[], Awaitable[bool]], name: str) -> None:
    async def asked() -> bool:
        return await is_ready()

    end = time.monotonic() + _OPEN_S
    while not asyncio.run(asked()):
        if time.monotonic() > end:
            raise TimeoutError(f"{name} is not open after {_OPEN_S} s")
        time.sleep(0.05)
