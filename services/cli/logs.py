"""`polyplane logs`: what the parts write."""

import time
from pathlib import Path
from typing import Annotated

import typer

from services.cli.terminal import errors
from services.embedded.home import Home, locate
from services.embedded.logs import log_files, tail

app = typer.Typer(add_completion=False)

_POLL_S = 0.3


@app.command()
def logs(
    part: Annotated[
        str | None, typer.Argument(help="As in `polyplane status`; all if none.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Of each part, from its end.")] = 40,
) -> None:
    """Show the logs of all parts or of one."""
    home = locate()
    for name, path in _chosen(home, part).items():
        for line in tail(path, lines):
            _print(name, line, alone=part is not None)
    if follow:
        try:
            _follow(home, part)
        except KeyboardInterrupt:
            raise typer.Exit from None


def _chosen(home: Home, part: str | None) -> dict[str, Path]:
    files = log_files(home.logs)
    if part is None:
        return files
    if part not in files:
        known = ", ".join(files) or "none yet"
        errors.print(f"There is no log of {part!r}. Logs: {known}.", markup=False)
        raise typer.Exit(2)
    return {part: files[part]}


def _follow(home: Home, part: str | None) -> None:
    positions = {path: path.stat().st_size for path in _chosen(home, part).values()}
    while True:
        for name, path in _chosen(home, part).items():
            positions[path] = _print_from(name, path, positions.get(path, 0), alone=bool(part))
        time.sleep(_POLL_S)


def _print_from(name: str, path: Path, position: int, *, alone: bool) -> int:
    """Print the whole lines after `position`; return where the next one begins."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(position if position <= size else 0)  # smaller: the file was rotated
        data = file.read()
        end = data.rfind(b"\n") + 1
        for line in data[:end].decode("utf-8", "replace").splitlines():
            _print(name, line, alone=alone)
        return file.tell() - len(data) + end


def _print(name: str, line: str, *, alone: bool) -> None:
    print(line if alone else f"{name:<15} {line}", flush=True)
