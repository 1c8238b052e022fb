"""A PostgreSQL of its own for one command, migrated, and gone afterwards."""

import asyncio
import secrets
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from services.embedded.accounts import identity, unprivileged_account
from services.embedded.ports import choose
from services.embedded.postgres import (
    DAGSTER_ROLE,
    OWNER,
    PLATFORM_DATABASE,
    SERVICE_ROLES,
    Postgres,
)
from services.embedded.processes import end_with_parent
from services.embedded.schema import bootstrap

_READY_S = 60.0
_STOP_S = 10.0
_POLL_S = 0.05


@asynccontextmanager
async def temporary_postgres() -> AsyncIterator[Mapping[str, str]]:
    """Run a server in a temporary folder; yield the platform's database by who logs in.

    Raises:
        RuntimeError: It does not start; the message holds its log.
    """
    with tempfile.TemporaryDirectory(prefix="polyplane-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # noqa: ASYNC240 - PostgreSQL may run under another account
        password = secrets.token_hex(16)
        port = choose({"postgres": 0}, host="127.0.0.1", strict=False).ports["postgres"]
        server = Postgres(folder / "postgres", port=port, owner_password=password)
        await asyncio.to_thread(server.prepare)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603, ASYNC220 - our own program; it returns at once
                [*server.command(), "-c", "fsync=off"],
                cwd=server.folder,
                env=server.environment(),
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent(signal.SIGINT),
                **identity(unprivileged_account()),
            )
        try:
            await _until_ready(server, process, folder / "log")
            roles = (*SERVICE_ROLES, DAGSTER_ROLE)
            await asyncio.to_thread(bootstrap, server.url, dict.fromkeys(roles, password))
            yield {role: server.url(PLATFORM_DATABASE, role=role) for role in (OWNER, *roles)}
        finally:
            process.send_signal(signal.SIGINT)
            await asyncio.to_thread(process.wait, _STOP_S)


async def _until_ready(server: Postgres, process: "subprocess.Popen[bytes]", log: Path) -> None:
    loop = asyncio.get_running_loop()
    given_up_at = loop.time() + _READY_S
    while not await server.is_ready():
        if process.poll() is not None or loop.time() > given_up_at:
            text = await asyncio.to_thread(log.read_text, "utf-8", "replace")
            raise RuntimeError(f"PostgreSQL does not start:\n{text}")
        await asyncio.sleep(_POLL_S)
