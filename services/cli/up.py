"""`polyplane up`: start the platform, or say where it runs."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import httpx
import typer

from services.cli.down import stop_platform
from services.cli.terminal import Progress, console, errors, print_addresses, print_notes
from services.embedded.home import Home, locate
from services.embedded.launch import StartFailed, follow_start, start
from services.embedded.state import PlatformState, read_state

app = typer.Typer()

_GENERATOR_S = 5.0


@app.command()
def up(
    host: Annotated[
        str | None, typer.Option(help="Address that the API listens on; default 127.0.0.1.")
    ] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; the API speaks HTTPS then.", exists=True)
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file.", exists=True)] = None,
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
        "GATEWAY_HOST": host,
        "GATEWAY_TLS_CERTIFICATE": tls_certificate and str(tls_certificate.absolute()),
        "GATEWAY_TLS_KEY": tls_key and str(tls_key.absolute()),
        "POLYPLANE_GATEWAYS": gateways and str(gateways),
    }
    environment = {**os.environ, **{name: value for name, value in options.items() if value}}
    _print_end(home, start_platform(home, environment))


def start_platform(home: Home, environment: dict[str, str]) -> PlatformState:
    """Start the platform with progress on the terminal; return its state once it runs.

    A platform that fails to start, or whose start is interrupted, is stopped again.
    """
    process = start(home, environment)
    try:
        with Progress("Starting") as progress:
            state = _show(progress, follow_start(home, process))
    except StartFailed as error:
        errors.print(f"Polyplane does not start. {error}", style="red", markup=False)
        _undo(home, ours=process.poll() is None)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        _undo(home, ours=process.poll() is None)
        raise typer.Exit(130) from error
    console.print(f"Polyplane runs, after {progress.elapsed_s:.1f} s.")
    return state


def _show(progress: Progress, states: Iterator[PlatformState]) -> PlatformState:
    said = False
    for state in states:
        if state.notes and not said:
            print_notes(state)
            said = True
        progress.show(state.parts)
    return state


def _undo(home: Home, *, ours: bool) -> None:
    if ours:
        console.print("Stopping what was started.")
        stop_platform(home)


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
