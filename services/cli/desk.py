"""Runs an operator's command on the running platform."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

import typer

from planes.shared.errors import PlatformError
from planes.shared.settings import SettingsWrong
from services.cli.admin_people import running
from services.cli.terminal import errors
from services.embedded.installation import Installation

Desk = TypeVar("Desk")
Result = TypeVar("Result")


def at(
    open_desk: Callable[[Installation], AbstractAsyncContextManager[Desk]],
    act: Callable[[Desk], Awaitable[Result]],
) -> Result:
    """Do something with what `open_desk` opens of the running platform.

    Raises:
        typer.Exit: The platform does not run, or refuses; what it says is printed.
    """

    async def work(installation: Installation) -> Result:
        async with open_desk(installation) as desk:
            return await act(desk)

    try:
        return asyncio.run(work(running()))
    except (PlatformError, SettingsWrong, OSError) as error:
        errors.print(error.detail if isinstance(error, PlatformError) else error, markup=False)
        raise typer.Exit(1) from error
