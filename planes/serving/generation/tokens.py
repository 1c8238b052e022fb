"""Tokens of texts, by the embedder's tokenizer, where the generator has none of its own."""

from bisect import bisect_left
from collections.abc import Iterable

from tokenizers import Tokenizer

_UNKNOWN = "[UNK]"
_CHARS_A_TOKEN = 3  # of what the embedder has no token for; language models do


class TokenCounter:
    """Counts and cuts by tokens; special tokens do not count.

    The embedder reads a run of more than 100 letters, and any word in a script that it does not
    know, as one unknown token, however long it is. Here it counts as one for three characters.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Store a tokenizer without truncation and padding."""
        self._tokenizer = tokenizer
        self._unknown_id = tokenizer.token_to_id(_UNKNOWN)

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`."""
        return len(self._starts(text))

    def counts(self, text: str, ends: Iterable[int]) -> list[int]:
        """Return the numbers of tokens of beginnings of `text` that end between two words."""
        starts = self._starts(text)
        return [bisect_left(starts, end) for end in ends]

    def cut(self, text: str, max_tokens: int) -> str:
        """Return the longest beginning of `text` that has at most `max_tokens` tokens."""
        starts = self._starts(text)
        if len(starts) <= max_tokens:
            return text
        shorter = (text[:end].rstrip() for end in reversed(starts[: max_tokens + 1]))
        # the beginning of an unknown run may be known, and of more tokens than were counted
        return next((cut for cut in shorter if self.count(cut) <= max_tokens), "")

    def _starts(self, text: str) -> list[int]:
        """Return where in `text` its tokens begin."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._unknown_id not in encoding.ids:
            return [start for start, _ in encoding.offsets]
        starts: list[int] = []
        for token, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            is_known = token != self._unknown_id
            starts.extend((start,) if is_known else range(start, end, _CHARS_A_TOKEN))
        return starts
