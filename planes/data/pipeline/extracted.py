"""The text of a file, with the spans of its pages and headings; offsets count code points."""

import re
from dataclasses import dataclass

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class PageSpan:
    """Where a page's text stands; pages count from 1."""

    page: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class HeadingSpan:
    """Where a heading's words stand; level 1 is the highest."""

    level: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """What a parser found; spans are in order and do not overlap."""

    text: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[HeadingSpan, ...] = ()

    @property
    def has_words(self) -> bool:
        """Whether there is anything to search for."""
        return _WORD.search(self.text) is not None


class TextBuilder:
    """Joins blocks of text by line breaks and notes where headings and pages stand."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._parts: list[str] = []
        self._length = 0
        self._pages: list[PageSpan] = []
        self._headings: list[HeadingSpan] = []

    def add_block(self, text: str, *, heading_level: int | None = None) -> None:
        """Append a block after a line break; blocks without visible characters are left out."""
        block = storable(text).strip()
        if not block:
            return
        start = self._append(block)
        if heading_level is not None:
            self._headings.append(HeadingSpan(heading_level, start, start + len(block)))

    def add_page(self, text: str) -> None:
        """Append the next page, which may be empty."""
        block = storable(text).strip()
        start = self._append(block) if block else self._length
        self._pages.append(PageSpan(len(self._pages) + 1, start, start + len(block)))

    def build(self) -> ExtractedText:
        """Return everything that was added."""
        return ExtractedText("".join(self._parts), tuple(self._pages), tuple(self._headings))

    def _append(self, block: str) -> int:
        separator = "\n\n" if self._parts else ""
        self._parts += [separator, block]
        start = self._length + len(separator)
        self._length = start + len(block)
        return start


def storable(text: str) -> str:
    r"""Return `text` with `\n` line breaks and without what PostgreSQL's UTF-8 refuses.

    That is the NUL character and surrogates that stand alone.
    """
    return _UNSTORABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
