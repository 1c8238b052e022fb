"""`polyplane down`: stop the platform; its data stays."""

from collections.abc import Iterable

import typer

from services.cli.terminal import Progress, console, errors
from services.embedded.home import Home, locate
from services.embedded.launch import StopFailed, stop
from services.embedded.state import PlatformState, supervisor_pid

app = typer.Typer(add_completion=False)


@app.command()
def down() -> None:
    """Stop the platform; its data stays."""
    home = locate()
    was_running = supervisor_pid(home) is not None
    elapsed_s = stop_platform(home)
    if was_running:
        console.print(f"Polyplane is stopped, after {elapsed_s:.1f} s.")
    else:
        console.print("Polyplane was not running.")


def stop_platform(home: Home) -> float:
    """Stop the platform with progress on the terminal; return the seconds it took."""
    return show_stop(stop(home))


def show_stop(states: Iterable[PlatformState | None]) -> float:
    """Show how the platform stops; return the seconds it took."""
    try:
        with Progress("Stopping") as progress:
            for state in states:
                if state is not None:
                    progress.show(state.parts)
    except StopFailed as error:
        errors.print(str(error), style="red", markup=False)
        raise typer.Exit(1) from error
    return progress.elapsed_s
