"""A home's database alone, for what must not happen while the platform runs."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from services.embedded.home import Home
from services.embedded.installation import Installation
from services.embedded.ports import choose
from services.embedded.processes import end_all
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
