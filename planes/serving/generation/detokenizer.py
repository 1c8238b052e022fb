"""Tokens to text, piece by piece."""

from typing import Any

_UNFINISHED = "\ufffd"


class Detokenizer:
    """Turns tokens into text as they come; a character may be spread over several tokens.

    Each piece is the difference of two decodings of the last few tokens, because a token's text
    depends on its neighbours. Special tokens have no text.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Store a tokenizer of transformers."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._context_at = self._shown_at = 0

    def feed(self, token: int) -> str:
        """Return the text that is certain now."""
        self._ids.append(token)
        shown, whole = self._decoded(self._shown_at), self._decoded(len(self._ids))
        if whole.endswith(_UNFINISHED):
            return ""
        self._context_at, self._shown_at = self._shown_at, len(self._ids)
        return whole[len(shown) :]

    def finish(self) -> str:
        """Return the rest, a broken character included."""
        return self._decoded(len(self._ids))[len(self._decoded(self._shown_at)) :]

    def _decoded(self, end: int) -> str:
        text: str = self._tokenizer.decode(
            self._ids[self._context_at : end], skip_special_tokens=True
        )
        return text
