"""`polyplane doctor`: what is missing or broken, and how to mend it."""

import os
from collections.abc import Iterator, Mapping
from itertools import chain

import typer

from planes.shared.settings import SettingsWrong
from services.cli.terminal import console
from services.embedded.diagnosis import Finding, diagnose
from services.embedded.given_servers import require_given
from services.embedded.home import Home, locate
from services.embedded.installation import (
    Installation,
    installation_at_hand,
    running_installation,
)
from services.embedded.server_diagnosis import diagnose_servers
from services.embedded.store_diagnosis import diagnose_chunk_store

app = typer.Typer(add_completion=False)

_MARKS = {"good": "[green]ok[/]     ", "warning": "[yellow]careful[/]", "bad": "[red]wrong[/]  "}


def _servers(
    home: Home, running: Installation | None, environment: Mapping[str, str]
) -> Iterator[Finding]:
    """Look at what the platform uses, or would use, if it is not its own."""
    try:
        if running is None and environment.get("POLYPLANE_MODE") == "server":
            require_given(environment, home)
            running = installation_at_hand(home, environment)
    except SettingsWrong as error:
        wrong = "; ".join(str(error).splitlines())
        yield Finding("Settings", "bad", wrong, "Correct these environment variables.")
        return
    if running is not None and running.mode == "server":
        yield from diagnose_servers(running, is_starting=False)
    else:
        yield from diagnose_chunk_store(environment)


@app.command()
def doctor() -> None:
    """Say in plain words what is missing or broken, and how to mend it; exit 1 if anything is."""
    worst = 0
    home = locate()
    running = running_installation(home)
    environment = running.environment if running else os.environ
    mode = running.mode if running else environment.get("POLYPLANE_MODE")
    is_server = mode == "server"
    for finding in chain(
        diagnose(home, has_own_servers=not is_server), _servers(home, running, environment)
    ):
        console.print(_MARKS[finding.verdict], end=" ")
        console.print(f"{finding.subject:<16} {finding.found}", markup=False)
        if finding.remedy:
            console.print(f"{'':>24} {finding.remedy}", style="bold", markup=False)
        worst |= finding.verdict == "bad"
    raise typer.Exit(worst)
