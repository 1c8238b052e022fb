"""`polyplane status`: each part's state, memory and uptime."""

import time

import typer
from rich.table import Table

from services.cli.terminal import coloured, console
from services.embedded.home import locate
from services.embedded.processes import proportional_memory_bytes
from services.embedded.state import PartState, PlatformState, read_state

NOT_RUNNING = 3
"""Exit code of a service that is not running, by the Linux Standard Base."""

app = typer.Typer(add_completion=False)


@app.command()
def status() -> None:
    """Show each part's state, memory and uptime; exit 0 if all is well, 3 if nothing runs."""
    state = read_state(locate())
    if state is None:
        console.print("Polyplane is not running. Start it with `polyplane up`.")
        raise typer.Exit(NOT_RUNNING)
    mode = ", on given servers" if state.mode == "server" else ""
    url = state.gateway_url if state.ports else ""
    console.print(f"Polyplane is {state.phase}{mode}: {url}")
    console.print(_table(state))
    for name, url in state.admin_urls.items():
        console.print(f"{name}: {url}/metrics, {url}/health/ready")
    if any(part.condition not in ("ready", "done") for part in state.parts):
        raise typer.Exit(1)


def _table(state: PlatformState) -> Table:
    table = Table("part", "state", "pid", "restarts", "memory", "uptime", box=None, pad_edge=False)
    total = 0
    supervisor = PartState(
        name="supervisor", condition="ready", pid=state.pid, started_at=state.started_at
    )
    for part in (*state.parts, supervisor):
        memory = (
            proportional_memory_bytes(part.pid) if part.pid and part is not supervisor else None
        )
        if part is supervisor:
            memory = proportional_memory_bytes(state.pid, with_children=False)
        total += memory or 0
        table.add_row(
            part.name,
            coloured(part),
            str(part.pid or ""),
            str(part.restarts or ""),
            f"{memory / 1e6:.0f} MB" if memory else "",
            _duration(part),
        )
    table.add_row("total", "", "", "", f"{total / 1e6:.0f} MB", "")
    return table


def _duration(part: PartState) -> str:
    if part.pid is None or part.started_at is None:
        return ""
    minutes, seconds = divmod(int(time.time() - part.started_at), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
