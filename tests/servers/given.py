"""A PostgreSQL of others, as it is given to a platform in server mode."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import Postgres
from tests.servers.processes import OwnServer

PASSWORD = "given-password"


@contextmanager
def given_postgres(folder: Path, name: str) -> Iterator[Postgres]:
    """Run a server on which nothing was made yet, below a folder that `nobody` can reach."""
    postgres = Postgres(folder / name, port=free_port(), owner_password=PASSWORD)
    postgres.prepare()
    server = OwnServer(
        [*postgres.command(), "-c", "fsync=off"],
        folder=postgres.folder,
        log=folder / f"{name}.log",
        environment=postgres.environment(),
        account=identity(unprivileged_account()),
    )
    server.start()
    try:
        _until_ready(postgres)
        yield postgres
    finally:
        server.kill()


def _until_ready(postgres: Postgres) -> None:
    async def poll() -> None:
        async with asyncio.timeout(300):
            while not await postgres.is_ready():
                await asyncio.sleep(0.05)

    asyncio.run(poll())
