"""What models write between tags, kept apart from the answer: reasoning, and calls of tools."""

from typing import NamedTuple


class Parted(NamedTuple):
    """A piece of what a model wrote: of its answer, and of what stands between the tags."""

    text: str
    inside: str


class TagFilter:
    """Parts blocks like `<think>…</think>` from a stream of pieces, wherever they are cut."""

    def __init__(self, tag: str) -> None:
        """Start outside of any block of `tag`, a name without brackets."""
        self._tags = (f"<{tag}>", f"</{tag}>")
        self._held = ""
        self._is_inside = False
        self._is_fresh = True

    @property
    def is_inside(self) -> bool:
        """Whether what comes now stands between tags."""
        return self._is_inside

    def feed(self, piece: str) -> Parted:
        """Return what of the text so far is certain and was not returned yet."""
        self._held += piece
        parts: tuple[list[str], list[str]] = ([], [])
        while True:
            tag = self._tags[self._is_inside]
            before, found, after = self._held.partition(tag)
            if not found:
                break
            parts[self._is_inside].append(before)
            self._held, self._is_inside = after, not self._is_inside
        certain = len(self._held) - _overlap(self._held, tag)
        parts[self._is_inside].append(self._held[:certain])
        self._held = self._held[certain:]
        return Parted(self._without_lead("".join(parts[0])), "".join(parts[1]))

    def finish(self) -> Parted:
        """Return what was held back as the possible beginning of a tag."""
        rest, self._held = self._held, ""
        return Parted("", rest) if self._is_inside else Parted(self._without_lead(rest), "")

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
