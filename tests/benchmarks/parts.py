"""The parts of the benchmarks, in the order in which they run."""

from collections.abc import Iterator
from importlib import import_module

from tests.benchmarks.records import Conditions, Measurement

NAMES: tuple[str, ...] = (
    "gateway",
    "retrieval",
    "answers",
    "embedding",
    "streams",
    "scaling",
    "chat_log",
    "ingestion",
    "logins",
    "start",
)
"""Modules of this package; each is imported when it is its turn."""

ON_REQUEST = ("peers", "soak")
"""Those that run only where they are named: one needs what `make benchmark-peers` installs, one
takes an hour."""


class NoSuchPart(Exception):
    """A part was asked for that there is not."""


def chosen(names: str) -> tuple[str, ...]:
    """Return the parts named, separated by commas, in their own order; `NAMES` if none is.

    Raises:
        NoSuchPart: One of them is unknown.
    """
    wanted, known = {name.strip() for name in names.split(",") if name.strip()}, NAMES + ON_REQUEST
    if unknown := wanted - set(known):
        told = ", ".join(sorted(unknown))
        raise NoSuchPart(f"There is no part {told}; there are: {', '.join(known)}.")
    return tuple(name for name in known if name in (wanted or NAMES))


def measure(name: str, conditions: Conditions) -> Iterator[Measurement]:
    """Measure a part."""
    yield from import_module(f"tests.benchmarks.{name}").measure(conditions)
