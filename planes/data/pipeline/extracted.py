"""The text of a file, with the spans of its pages and headings; offsets count code points."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_WORD = re.compile(r"\w")
LOWEST_LEVEL = 9  # of a heading


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
class TableSpan:
    """A row of column titles, and where the rows below it end; they begin where the titles end."""

    start: int
    titles_end: int
    end: int


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """What a parser found; spans of a kind are in order and do not overlap."""

    text: str
    pages: tuple[PageSpan, ...] = ()
    headings: tuple[HeadingSpan, ...] = ()
    tables: tuple[TableSpan, ...] = ()

    @classmethod
    def of(cls, text: str, spans: Mapping[str, Sequence[Sequence[int]]]) -> Self:
        """Return what `spans` was taken from."""
        return cls(
            text,
            tuple(PageSpan(*span) for span in spans["pages"]),
            tuple(HeadingSpan(*span) for span in spans["headings"]),
            tuple(TableSpan(*span) for span in spans["tables"]),
        )

    def spans(self) -> dict[str, Any]:
        """Return the spans as plain numbers, to be kept beside the text."""
        return {
            "pages": [(span.page, span.start, span.end) for span in self.pages],
            "headings": [(span.level, span.start, span.end) for span in self.headings],
            "tables": [(span.start, span.titles_end, span.end) for span in self.tables],
        }

    @property
    def has_words(self) -> bool:
        """Whether there is anything to search for."""
        return _WORD.search(self.text) is not None


class TextBuilder:
    """Joins blocks of text by blank lines and notes where headings, pages and tables stand."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._parts: list[str] = []
        self._length = 0
        self._pages: list[tuple[int, int]] = []  # number, blocks before it
        self._blocks: list[tuple[int, int]] = []
        self._headings: list[HeadingSpan] = []
        self._tables: list[TableSpan] = []
        self._titles: tuple[int, int] | None = None

    def add_block(self, text: str, *, heading_level: int | None = None) -> None:
        """Append a block after a blank line; blocks without visible characters are left out."""
        block = storable(text).strip()
        if not block:
            return
        separator = "\n\n" if self._parts else ""
        self._parts += [separator, block]
        start = self._length + len(separator)
        self._length = start + len(block)
        self._blocks.append((start, self._length))
        if heading_level is not None:
            level = min(max(heading_level, 1), LOWEST_LEVEL)
            self._headings.append(HeadingSpan(level, start, self._length))

    def add_table(self, rows: Sequence[str], *, has_titles: bool) -> None:
        """Append rows, a line each; where `has_titles`, the first one names the columns."""
        lines = [line for row in rows if (line := " ".join(storable(row).split()))]
        before = len(self._blocks)
        self.add_block("\n".join(lines))
        if has_titles and len(lines) > 1 and len(self._blocks) > before:
            start, end = self._blocks[-1]
            self._tables.append(TableSpan(start, start + len(lines[0]), end))

    def begin_rows(self) -> None:
        """Note that the last block names the columns of the blocks that follow."""
        self._titles = self._blocks[-1] if self._blocks else None

    def end_rows(self) -> None:
        """Note that no more rows follow."""
        titles, self._titles = self._titles, None
        if titles is not None and self._length > titles[1]:
            self._tables.append(TableSpan(*titles, self._length))

    def begin_page(self, number: int) -> None:
        """Note that what follows stands on another page, which may be empty."""
        self._pages.append((number, len(self._blocks)))

    def add_page(self, text: str) -> None:
        """Append the next page as one block."""
        self.begin_page(len(self._pages) + 1)
        self.add_block(text)

    def build(self) -> ExtractedText:
        """Return everything that was added."""
        ends = [first for _, first in self._pages[1:]] + [len(self._blocks)]
        pages = (
            self._page(number, first, end)
            for (number, first), end in zip(self._pages, ends, strict=True)
        )
        return ExtractedText(
            "".join(self._parts),
            tuple(pages) if self._pages else (),
            tuple(self._headings),
            tuple(self._tables),
        )

    def _page(self, number: int, first: int, end: int) -> PageSpan:
        if first == end:
            place = self._blocks[first - 1][1] if first else 0
            return PageSpan(number, place, place)
        return PageSpan(number, self._blocks[first][0], self._blocks[end - 1][1])


def storable(text: str) -> str:
    r"""Return `text` with `\n` line breaks and without what PostgreSQL's UTF-8 refuses.

    That is the NUL character and surrogates that stand alone.
    """
    return _UNSTORABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
