"""Which caches a request asked, and what they said: the gateway counts it."""

from contextvars import ContextVar
from typing import Literal, TypeAlias

from planes.shared.wire import CacheLookup

CacheName: TypeAlias = Literal["answer", "retrieval", "embedding"]

_lookups: ContextVar[list[CacheLookup] | None] = ContextVar("lookups", default=None)


def begin_lookups() -> None:
    """Start the list of the present request; tasks that it starts add to the same."""
    _lookups.set([])


def note_lookup(name: CacheName, *, is_hit: bool) -> None:
    """Add one lookup to the list of the present request, where there is one."""
    lookups = _lookups.get()
    if lookups is not None:
        lookups.append(CacheLookup(cache=name, is_hit=is_hit))


def lookups_so_far() -> tuple[CacheLookup, ...]:
    """Return what the present request has looked up."""
    return tuple(_lookups.get() or ())
