"""`polyplane up`: start the platform, or say where it runs."""

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer

from services.cli.down import show_stop
from services.cli.interruption import Interrupted, Interruption
from services.cli.terminal import Progress, console, errors, print_addresses, print_notes
from services.embedded.home import Home, locate
from services.embedded.launch import Started, StartFailed, follow_start, start, undo
from services.embedded.servers import TAKE_OVER, Mode
from services.embedded.state import PlatformState, read_state

app = typer.Typer(add_completion=False)

_GENERATOR_S = 5.0


@app.command()
def up(  # noqa: PLR0913, PLR0917 (each is an option)
    host: Annotated[
        str | None, typer.Option(help="Address that the API listens on; default 127.0.0.1.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; the API speaks HTTPS then.", exists=True)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.", exists=True)] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="Whose PostgreSQL, Redis and files: embedded is our own; see operations."
        ),
    ] = None,
    take_over: Annotated[
        bool,
        typer.Option("--take-over", help="The platform that these given servers had is gone."),
    ] = False,
    gateways: Annotated[
        int | None,
        typer.Option(min=1, max=16, help="Gateway processes that share the port; default 1."),
    ] = None,
) -> None:
    """Start the platform, or say where it runs."""
    home = locate()
    state = read_state(home)
    if state is not None and state.phase == "running":
        console.print("Polyplane runs already.")
        print_notes(state)
        running = len(state.admin_urls)
        if gateways not in (None, running):
            console.print(
                f"[yellow]It has {running} gateway processes; for {gateways}, run "
                f"`polyplane down` and `polyplane up --gateways {gateways}`.[/]"
            )
        _print_end(home, state)
        return
    options = {
        "POLYPLANE_MODE": mode,
        TAKE_OVER: "true" if take_over else None,
        "GATEWAY_HOST": host,
        "GATEWAY_TLS_CERTIFICATE": tls_certificate and str(tls_certificate.absolute()),
        "GATEWAY_TLS_KEY": tls_key and str(tls_key.absolute()),
        "POLYPLANE_GATEWAYS": gateways and str(gateways),
    }
    environment = {**os.environ, **{name: value for name, value in options.items() if value}}
    with started_platform(home, environment) as state:
        _print_end(home, state)


@contextmanager
def started_platform(home: Home, environment: dict[str, str]) -> Iterator[PlatformState]:
    """Start the platform with progress on the terminal; the block gets its state once it runs.

    A platform that fails to start, or that is interrupted before the block ends, is stopped again.

    Raises:
        typer.Exit: It was; the reason is on the terminal.
    """
    with Interruption() as interruption:
        supervisor = start(home, environment)
        try:
            with Progress("Starting") as progress:
                state = _show(progress, interruption.watched(follow_start(home, supervisor)))
            console.print(f"Polyplane runs, after {progress.elapsed_s:.1f} s.")
            yield state
            interruption.check()
        except StartFailed as error:
            errors.print(f"Polyplane does not start. {error}", style="red", markup=False)
            _undo(home, supervisor)
            raise typer.Exit(1) from error
        except Interrupted:
            _undo(home, supervisor)
            raise


def _show(progress: Progress, states: Iterable[PlatformState | None]) -> PlatformState:
    last: PlatformState | None = None
    for state in states:
        if state is None:
            continue
        if state.notes and (last is None or not last.notes):
            print_notes(state)
        progress.show(state.parts)
        last = state
    assert last is not None  # noqa: S101 (the start ends with a state, or fails)
    return last


def _undo(home: Home, supervisor: Started) -> None:
    if supervisor.poll() is None:
        console.print("Stopping what was started.")
    show_stop(undo(home, supervisor))


def _print_end(home: Home, state: PlatformState) -> None:
    print_addresses(state, logs=str(home.logs), generator=_generator(state))


def _generator(state: PlatformState) -> str | None:
    """Ask the gateway which generator answers, and why; None where it does not say in time."""
    deadline = time.monotonic() + _GENERATOR_S
    while time.monotonic() < deadline:
        try:
            health = httpx.get(f"{state.admin_url}/health/ready", timeout=3, trust_env=False).json()
            generator = health["parts"]["generator"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            generator = {}
        if generator.get("model"):
            reason = generator.get("reason")
            return f"{generator['model']}: {reason}" if reason else str(generator["model"])
        time.sleep(0.2)  # the gateway looks at the serving plane about once a second
    return None
