"""The parts of the benchmarks, in the order in which they run."""

from collections.abc import Iterator
from importlib import import_module

from tests.benchmarks.records import Conditions, Measurement

NAMES: tuple[str, ...] = ("chat_log",)
"""Modules of this package; each is imported when it is its turn."""


class NoSuchPart(Exception):
    """A part was asked for that there is not."""


def chosen(names: str) -> tuple[str, ...]:
    """Return the parts named, separated by commas, in their own order; all if none is.

    Raises:
        NoSuchPart: One of them is unknown.
    """
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    if unknown := wanted - set(NAMES):
        told = ", ".join(sorted(unknown))
        raise NoSuchPart(f"There is no part {told}; there are: {', '.join(NAMES)}.")
    return tuple(name for name in NAMES if name in wanted or not wanted)


def measure(name: str, conditions: Conditions) -> Iterator[Measurement]:
    """Measure a part."""
    yield from import_module(f"tests.benchmarks.{name}").measure(conditions)
