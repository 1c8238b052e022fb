"""Ctrl-C and SIGTERM as something to look at, where stopping is safe.

Python's own way, an exception between any two instructions, can be lost in a callback, and can cut
a start in half before anybody knows what was started.
"""

import signal
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import typer

Item = TypeVar("Item")


class Interrupted(typer.Exit):
    """Somebody asked to stop; the exit code is that of a shell, 128 plus the signal's number."""


class Interruption:
    """Remembers the first SIGINT or SIGTERM that arrives inside the block, and does nothing else.

    A signal that was ignored before stays so: a shell's background jobs ignore SIGINT.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._number: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Take the signals."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Go on, unless a signal has arrived.

        Raises:
            Interrupted: One has.
        """
        if self._number is not None:
            raise Interrupted(128 + self._number)

    def watched(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items until a signal arrives.

        Raises:
            Interrupted: One has arrived, be it after the last item.
        """
        for item in items:
            self.check()
            yield item
        self.check()

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._number is None:
            self._number = number
