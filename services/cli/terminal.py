"""What the commands print."""

import time
import unicodedata
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from services.embedded.state import PartState, PlatformState

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_COLOURS = {
    "ready": "green",
    "done": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "restarting": "red",
    "not answering": "red",
}


def printable(text: str) -> str:
    """Return what people or models wrote so that it cannot steer the terminal.

    Control characters, and those that are not seen but turn lines around, become U+FFFD; line feeds
    stay.
    """
    return "".join(
        char if char == "\n" or unicodedata.category(char) not in _UNSEEN else "\ufffd"
        for char in text
    )


class Progress:
    """The parts while they start or stop: a live table, or one line a change without a terminal."""

    def __init__(self, verb: str) -> None:
        """Store what is happening.

        Args:
            verb: As in "Starting" or "Stopping".
        """
        self._verb = verb
        self._began = time.monotonic()
        self._live: Live | None = None
        self._said: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Begin to draw."""
        if console.is_terminal:
            self._live = Live(console=console, transient=True, refresh_per_second=8)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the terminal as it was."""
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def show(self, parts: Iterable[PartState]) -> None:
        """Draw the parts' present states."""
        if self._live is not None:
            self._live.update(self._table(parts))
            return
        for part in parts:
            if not self._said:
                console.print(f"{self._verb} Polyplane")
            if self._said.get(part.name) != part.condition:
                self._said[part.name] = part.condition
                detail = f" ({part.detail})" if part.detail else ""
                console.print(f"{self.elapsed_s:6.1f} s  {part.name:<15} {part.condition}{detail}")

    def _table(self, parts: Iterable[PartState]) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_row(f"[bold]{self._verb} Polyplane[/]", f"{self.elapsed_s:.1f} s")
        for part in parts:
            ready = f"{part.ready_after_s:.1f} s" if part.ready_after_s is not None else ""
            table.add_row(f"  {part.name}", coloured(part), ready, part.detail or "")
        return table


def coloured(part: PartState) -> str:
    """Return a part's condition, marked up in its colour."""
    colour = _COLOURS.get(part.condition, "dim")
    return f"[{colour}]{part.condition}[/]"


def print_notes(state: PlatformState) -> None:
    """Print what is not as it was asked for."""
    for note in state.notes:
        console.print(f"[yellow]{note}[/]")


def print_addresses(state: PlatformState, *, logs: str, generator: str | None) -> None:
    """Print where everything is."""
    rows = {
        "API": state.gateway_url,
        "API documentation": f"{state.gateway_url}/docs",
        "Dagster (read-only)": state.dagster_url,
        "Health and metrics": f"{', '.join(state.admin_urls.values())} (/health/ready, /metrics)",
        "Logs": f"{logs} (polyplane logs -f)",
    }
    if generator is not None:
        rows["Answers come from"] = generator
    for name, value in rows.items():
        console.print(f"  {name:<20} {value}")
