"""Passages that say the same again: copies, reprints, the same boilerplate in many documents.

Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900: texts are compared by their shingles.
"""

import re

_WORD = re.compile(r"\w+")
_SHINGLE = 3  # words
_SHARE = 0.9

Shingles = frozenset[tuple[str, ...]]


class Told:
    """What passages have said so far."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._seen: list[Shingles] = []

    def is_news(self, text: str) -> bool:
        """Tell whether a passage says more than a single one before it, and remember it if so.

        It does not where nine of ten of its shingles of three words stand in that one.
        """
        own = _shingles(text)
        if own and any(len(own & other) >= _SHARE * len(own) for other in self._seen):
            return False
        self._seen.append(own)
        return True


def _shingles(text: str) -> Shingles:
    """Return every run of three words, in lower case; all words where there are fewer."""
    words = _WORD.findall(text.lower())
    last = max(1, len(words) - _SHINGLE + 1)
    return frozenset(tuple(words[first : first + _SHINGLE]) for first in range(last) if words)
