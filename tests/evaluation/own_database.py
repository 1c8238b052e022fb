"""A PostgreSQL of one's own for an evaluation, on a free port, gone afterwards."""

import asyncio
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from planes.shared.stores import migrations
from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import free_port
from services.embedded.postgres import OWNER, SERVICE_ROLES, Postgres
from services.embedded.schema import allow_login, owner_connection

_PASSWORD = "evaluation"
_START_S = 30


@contextmanager
def own_database(*, durable: bool = False) -> Iterator[dict[str, str]]:
    """Yield the URLs of a fresh migrated database, by who logs in: admin, gateway, serving, data.

    Unless it is to be durable, what is committed does not wait for the disk.
    """
    folder = Path(tempfile.mkdtemp(prefix="polyplane-evaluation-"))
    folder.chmod(0o711)
    server = Postgres(folder / "postgres", port=free_port(), owner_password=_PASSWORD)
    server.prepare()
    process = subprocess.Popen(
        [*server.command(), *([] if durable else ["-c", "fsync=off"])],
        cwd=server.folder,
        env=server.environment(),
        **identity(unprivileged_account()),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        asyncio.run(_ready(server))
        yield _migrated(server)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        shutil.rmtree(folder)


async def _ready(server: Postgres) -> None:
    async with asyncio.timeout(_START_S):
        while not await server.is_ready():
            await asyncio.sleep(0.05)


def _migrated(server: Postgres) -> dict[str, str]:
    url = server.url("postgres")
    migrations.upgrade(url)
    with owner_connection(url) as connection:
        for role in SERVICE_ROLES:
            allow_login(connection, role, _PASSWORD)
    urls = {
        role.removeprefix("polyplane_"): server.url("postgres", role=role) for role in SERVICE_ROLES
    }
    return {"admin": server.url("postgres", role=OWNER), **urls}
