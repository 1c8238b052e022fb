"""Reasoning that models write between <think> and </think>: counted, never shown."""

_OPEN, _CLOSE = "<think>", "</think>"


class ThinkingFilter:
    """Removes think blocks from a stream of pieces, wherever the pieces are cut."""

    def __init__(self) -> None:
        """Start outside of any block."""
        self._held = ""
        self._is_inside = False
        self._is_fresh = True

    def feed(self, piece: str) -> str:
        """Return what of the text so far may be shown and was not yet."""
        self._held += piece
        shown: list[str] = []
        while True:
            tag = _CLOSE if self._is_inside else _OPEN
            before, found, after = self._held.partition(tag)
            if not found:
                break
            if not self._is_inside:
                shown.append(before)
            self._held, self._is_inside = after, not self._is_inside
        kept = _overlap(self._held, tag)
        visible = self._held[: len(self._held) - kept]
        self._held = self._held[len(self._held) - kept :]
        if not self._is_inside:
            shown.append(visible)
        return self._without_lead("".join(shown))

    def finish(self) -> str:
        """Return what was held back as the possible beginning of a tag."""
        rest, self._held = self._held, ""
        return "" if self._is_inside else self._without_lead(rest)

    def _without_lead(self, text: str) -> str:
        """Drop the blank lines that a block leaves before the answer."""
        if self._is_fresh:
            text = text.lstrip()
            self._is_fresh = not text
        return text


def _overlap(text: str, tag: str) -> int:
    """Return the length of the longest end of `text` that begins `tag`."""
    return next(
        (n for n in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-n:])), 0
    )
