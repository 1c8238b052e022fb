"""The stores that backups are made of and restored into, and how such a command ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import typer
from sqlalchemy.exc import DBAPIError

from planes.shared.errors import PlatformError
from planes.shared.settings import SettingsWrong
from planes.shared.stores.chat_log_settings import ChatLogSettings
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from services.cli.interruption import Interrupted
from services.cli.terminal import errors
from services.embedded.home import locate
from services.embedded.installation import Installation, NotRunning, installation_at_hand
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.state import AlreadyRunning
from services.operations.stores import Stores, open_stores


@asynccontextmanager
async def stores_at_hand() -> AsyncIterator[Stores]:
    """Open the stores of the running platform; where none runs, those that the settings name.

    Raises:
        NotRunning: Nothing runs, and no server is named.
        PlatformError: A store does not answer, or cannot serve.
    """
    async with open_stores_of(installation_at_hand(locate(), os.environ)) as stores:
        yield stores


@asynccontextmanager
async def open_stores_of(
    installation: Installation, *, are_new: bool = False
) -> AsyncIterator[Stores]:
    """Open the stores of an installation; where they are new its settings say what is where.

    Raises:
        PlatformError: A store does not answer, or cannot serve.
    """
    async with open_stores(
        installation.servers.owner_url(PLATFORM_DATABASE),
        installation.objects(),
        installation.settings(ChunkStoreSettings),
        installation.settings(ChatLogSettings),
        are_new=are_new,
    ) as stores:
        yield stores


def act(work: Coroutine[Any, Any, None]) -> None:
    """Run an operator's command to its end, or until SIGINT or SIGTERM, which it cleans up after.

    Raises:
        typer.Exit: It was refused or interrupted; what it says is printed.
    """
    try:
        asyncio.run(_interruptible(work))
    except Interrupted:  # a RuntimeError too
        raise
    except AlreadyRunning as error:
        errors.print("Polyplane runs: `polyplane down` stops it.")
        raise typer.Exit(1) from error
    except NotRunning as error:
        errors.print(str(error))
        raise typer.Exit(3) from error
    except DBAPIError as error:  # its own text holds the statement
        errors.print(f"PostgreSQL: {str(error.orig).strip()}", markup=False)
        raise typer.Exit(1) from error
    except (PlatformError, SettingsWrong, OSError, RuntimeError) as error:
        said = str(error) or f"A server does not answer in time ({type(error).__name__})."
        errors.print(said, markup=False)
        raise typer.Exit(1) from error


async def _interruptible(work: Coroutine[Any, Any, None]) -> None:
    """Cancel the work at the first signal; further ones wait until it has cleaned up.

    Raises:
        Interrupted: A signal arrived.
    """
    loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)
    arrived: list[int] = []

    def stop(number: int) -> None:
        if not arrived:
            task.cancel()
        arrived.append(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)
    try:
        await task
    except asyncio.CancelledError:
        if not arrived:
            raise
        raise Interrupted(128 + arrived[0]) from None
