"""A cache in this process that knows how large it is."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Drops what was not used for the longest time, so that it never holds more than its bytes."""

    def __init__(self, *, max_bytes: int) -> None:
        """Store the bound; 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._entries: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Key) -> Value | None:
        """Return what is kept, None for nothing."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: Key, value: Value, size_bytes: int) -> list[tuple[Key, Value]]:
        """Keep a value, and return what is not kept any more, be it the value itself."""
        old = self._entries.pop(key, None)
        self.bytes += size_bytes - (old[1] if old else 0)
        self._entries[key] = value, size_bytes
        dropped: list[tuple[Key, Value]] = []
        while self.bytes > self._max_bytes:
            oldest, (other, other_bytes) = self._entries.popitem(last=False)
            self.bytes -= other_bytes
            dropped.append((oldest, other))
        return dropped
