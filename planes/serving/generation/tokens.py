"""Tokens of texts, by the embedder's tokenizer, where the generator has none of its own."""

from tokenizers import Tokenizer


class TokenCounter:
    """Counts and cuts by tokens; special tokens do not count."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Store a tokenizer without truncation and padding."""
        self._tokenizer = tokenizer

    def count(self, text: str) -> int:
        """Return the number of tokens of `text`."""
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def cut(self, text: str, max_tokens: int) -> str:
        """Return the longest beginning of `text` that has at most `max_tokens` tokens."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return text if len(offsets) <= max_tokens else text[: offsets[max_tokens][0]].rstrip()
