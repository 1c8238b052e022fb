"""What was seen lately, in bounded memory."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)


class RecentlySeen(Generic[_Key]):
    """The last `size` keys that were added or asked for."""

    def __init__(self, size: int) -> None:
        """Store how many to keep."""
        self._size = size
        self._keys: OrderedDict[_Key, None] = OrderedDict()

    def __contains__(self, key: _Key) -> bool:
        """Tell whether a key is known; then it is the newest again."""
        if key not in self._keys:
            return False
        self._keys.move_to_end(key)
        return True

    def add(self, key: _Key) -> None:
        """Take a key, and forget the oldest where there are too many."""
        self._keys[key] = None
        self._keys.move_to_end(key)
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)
