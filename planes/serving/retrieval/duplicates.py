"""Passages that say the same again: copies, reprints, the same boilerplate in many documents.

Broder 1997, https://doi.org/10.1109/SEQUEN.1997.666900: texts are compared by their shingles.
"""

import re
from collections.abc import Iterable, Iterator

from planes.shared.domain import Ranked

_WORD = re.compile(r"\w+")
_SHINGLE = 3  # words
_SHARE = 0.9

Shingles = frozenset[tuple[str, ...]]


def without_near_duplicates(ranked: Iterable[Ranked]) -> Iterator[Ranked]:
    """Yield the ranking without passages that a better one holds nearly whole.

    A passage is left out where nine of ten of its shingles of three words stand in one that was
    yielded before. It is lazy: what nobody asks for is not compared.
    """
    seen: list[Shingles] = []
    for item in ranked:
        own = _shingles(item.candidate.chunk.text)
        if own and any(len(own & other) >= _SHARE * len(own) for other in seen):
            continue
        seen.append(own)
        yield item


def _shingles(text: str) -> Shingles:
    """Return every run of three words, in lower case; all words where there are fewer."""
    words = _WORD.findall(text.lower())
    last = max(1, len(words) - _SHINGLE + 1)
    return frozenset(tuple(words[first : first + _SHINGLE]) for first in range(last) if words)
