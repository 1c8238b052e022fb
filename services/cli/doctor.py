"""`polyplane doctor`: what is missing or broken, and how to mend it."""

import os
from itertools import chain

import typer

from services.cli.terminal import console
from services.embedded.diagnosis import diagnose
from services.embedded.home import locate
from services.embedded.installation import running_installation
from services.embedded.store_diagnosis import diagnose_chunk_store

app = typer.Typer(add_completion=False)

_MARKS = {"good": "[green]ok[/]     ", "warning": "[yellow]careful[/]", "bad": "[red]wrong[/]  "}


@app.command()
def doctor() -> None:
    """Say in plain words what is missing or broken, and how to mend it; exit 1 if anything is."""
    worst = 0
    home = locate()
    running = running_installation(home)
    environment = running.environment if running else os.environ
    for finding in chain(diagnose(home), diagnose_chunk_store(environment)):
        console.print(_MARKS[finding.verdict], end=" ")
        console.print(f"{finding.subject:<16} {finding.found}", markup=False)
        if finding.remedy:
            console.print(f"{'':>24} {finding.remedy}", style="bold", markup=False)
        worst |= finding.verdict == "bad"
    raise typer.Exit(worst)
