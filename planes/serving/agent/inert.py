"""Answers whose links and images do nothing: what a model writes is untrusted text.

A document may talk a model into an image whose address carries the conversation away, or into a
link to somewhere else. No target that a model writes comes from the platform, so none is kept:
links and images shrink to their words, and addresses stay only where they stand in what was read.
"""

import re
from collections.abc import Iterable

_HELD = re.compile(
    r"!?\[[^\[\]\n]{0,300}(?:\](?:\((?:[^()\n]|\([^()\n]*(?:\)|\Z)){0,2000})?)?\Z"  # a link
    r"|<[^<>\n]{0,2000}\Z|[\x21-\x7e]{1,2000}\Z",  # a tag, and the last word
)
_IMAGE_OR_LINK = re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\n]{0,2000}(?:\([^()\n]*\)[^()\n]*)?\)")
_REFERENCE = re.compile(r"!\[([^\[\]\n]{0,300})\](?:\[[^\[\]\n]*\])?")
_DEFINITION = re.compile(r"(\[[^\[\]\n]{1,300}\]):(?=\s*\S)")
_TAG = re.compile(
    r"</?(?:a|area|audio|base|button|embed|form|frame|iframe|img|input|link|meta|object|picture|"
    r"script|source|style|svg|track|video)\b[^<>]*>?|<(?:[a-z][a-z0-9+.-]*:|www\.)[^<>\s]*>?",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"(?:\b(?:https?|ftp)://|\bwww\.)[^\s<>\"'`)\]]+", re.IGNORECASE)
_REMOVED = "(link removed)"


class InertText:
    """Takes the links and images out of a growing answer, wherever its pieces are cut."""

    def __init__(self, read: Iterable[str] | None) -> None:
        """Start an answer.

        Args:
            read: What the model was given: bare addresses that stand in it may be repeated. None
                leaves all of them.
        """
        self._keeps_addresses = read is None
        self._known = frozenset(
            address.rstrip(".,;:!?") for text in read or () for address in _ADDRESS.findall(text)
        )
        self._held = ""

    def feed(self, piece: str) -> str:
        """Return what of the text so far may be shown and was not yet."""
        text = self._held + piece
        end = _shown_until(text)
        self._held = text[end:]
        return self._inert(text[:end])

    def finish(self) -> str:
        """Return what was held back as the possible beginning of a link."""
        text, self._held = self._held, ""
        return self._inert(text)

    def _inert(self, text: str) -> str:
        shown = inert(text)
        return shown if self._keeps_addresses else _ADDRESS.sub(self._known_address, shown)

    def _known_address(self, found: re.Match[str]) -> str:
        address = found.group().rstrip(".,;:!?")
        rest = found.group()[len(address) :]
        return (address if address in self._known else _REMOVED) + rest


def inert(text: str) -> str:
    """Return `text` with its links and images shrunk to their words; bare addresses stay."""
    for pattern in (_IMAGE_OR_LINK, _REFERENCE, _DEFINITION):
        text = pattern.sub(r"\1", text)
    return _TAG.sub("", text).replace("](", "] (")


def _shown_until(text: str) -> int:
    """Return where what may still become a link begins; whole links are not cut in two."""
    under_way = _HELD.search(text)
    end = under_way.start() if under_way else len(text)
    whole = (found.span() for each in (_IMAGE_OR_LINK, _TAG) for found in each.finditer(text))
    return min((start for start, stop in whole if start < end < stop), default=end)
