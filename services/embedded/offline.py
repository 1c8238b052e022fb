"""A home's stores without its platform, for what must not happen while that runs."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager

from services.embedded.home import Home
from services.embedded.installation import Installation
from services.embedded.ports import choose
from services.embedded.processes import end_all
from services.embedded.remembered import check_mode
from services.embedded.runner import PartRunner
from services.embedded.state import supervisor_lock

_START_S = 60.0


@asynccontextmanager
async def offline_installation(
    home: Home, environment: Mapping[str, str]
) -> AsyncIterator[Installation]:
    """Yield an installation of embedded mode whose PostgreSQL runs, and nothing else of it.

    The home is made where it is missing. Nobody else starts the platform during the block.

    Raises:
        AlreadyRunning: The platform runs.
        HomeRefused: The folder holds something else, or points to another home's data.
        TimeoutError: PostgreSQL does not start; its log says why.
    """
    home.create()
    with supervisor_lock(home.lock_file):
        await end_all(home)
        installation = Installation(
            home=home,
            ports=choose({"postgres": 0, "redis": 0}, host="127.0.0.1", strict=False).ports,
            secrets=home.secrets(),
            environment=environment,
            host="127.0.0.1",
            tls=False,
        )
        installation.servers.prepare()
        (part,) = (part for part in installation.servers.parts() if part.name == "postgres")
        runner = PartRunner(part, home, lambda: None)
        task = asyncio.create_task(runner.run([]))
        try:
            async with asyncio.timeout(_START_S):
                await runner.is_ready.wait()
            yield installation
        finally:
            await runner.stop()
            task.cancel()


@contextmanager
def given_installation(home: Home, environment: Mapping[str, str]) -> Iterator[Installation]:
    """Yield an installation on the servers that variables name, of which nothing runs.

    The home is made where it is missing, with its secrets. Nobody starts the platform during the
    block.

    Raises:
        AlreadyRunning: The platform runs.
        HomeRefused: The folder holds something else, or is of an embedded platform.
    """
    home.create()
    with supervisor_lock(home.lock_file):
        check_mode(home, "server")
        yield Installation(
            home=home,
            ports={},
            secrets=home.secrets(),
            environment=environment,
            host="127.0.0.1",
            tls=False,
            mode="server",
        )
