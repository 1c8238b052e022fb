"""Which headings stand above a place in the text."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from planes.data.pipeline.extracted import ExtractedText

SEPARATOR = " > "
_MAX_TITLE_CHARS = 1000
_MAX_COLUMNS_CHARS = 160  # longer column titles would leave little room for the rows
Titles = tuple[str, ...]


class Outline:
    """The headings of a text as a tree; a section begins with the line of its heading.

    A table's row of column titles stands like a deepest heading above the rows below it.
    """

    def __init__(self, extracted: ExtractedText) -> None:
        """Read the tree off the levels."""
        text = extracted.text
        self._lines = [text.rfind("\n", 0, span.start) + 1 for span in extracted.headings]
        self._ends = [span.end for span in extracted.headings]
        self._levels = [span.level for span in extracted.headings]
        self._parents: list[Titles] = []
        self._paths: list[Titles] = []
        open_headings: list[tuple[int, str]] = []
        for span in extracted.headings:
            while open_headings and open_headings[-1][0] >= span.level:
                open_headings.pop()
            self._parents.append(tuple(title for _, title in open_headings))
            open_headings.append((span.level, _title(text, span.start, span.end)))
            self._paths.append(tuple(title for _, title in open_headings))
        self._length = len(text)
        self._tables = extracted.tables
        self._titles_ends = [span.titles_end for span in extracted.tables]
        self._columns = [_title(text, span.start, span.titles_end) for span in extracted.tables]

    def sections(self) -> Iterator[tuple[int, int, int]]:
        """Yield (level, start, end) of each section; level 0 is the text before any heading."""
        starts = [0, *self._lines]
        for level, start, end in zip(
            [0, *self._levels], starts, [*starts[1:], self._length], strict=True
        ):
            if end > start:
                yield level, start, end

    def above(self, position: int) -> Titles:
        """Return the titles above a place, the highest first.

        A heading does not stand above its own line, nor column titles above theirs.
        """
        return self._headings_above(position) + self._columns_above(position)

    def above_any(self, start: int, end: int) -> set[Titles]:
        """Return every result that `above` can have for a place in this range."""
        places = {start}
        for changes in (self._lines, self._ends, self._titles_ends):
            places.update(changes[bisect_left(changes, start) : bisect_left(changes, end)])
        first = bisect_left(self._titles_ends, start)
        inside = self._tables[max(0, first - 1) : bisect_left(self._titles_ends, end)]
        places.update(span.end for span in inside if start < span.end < end)
        return {self.above(place) for place in places}

    def _headings_above(self, position: int) -> Titles:
        index = bisect_right(self._lines, position) - 1
        if index < 0:
            return ()
        return self._parents[index] if position < self._ends[index] else self._paths[index]

    def _columns_above(self, position: int) -> Titles:
        index = bisect_right(self._titles_ends, position) - 1
        if index < 0 or position >= self._tables[index].end:
            return ()
        columns = self._columns[index]
        return (columns,) if columns and len(columns) <= _MAX_COLUMNS_CHARS else ()


def _title(text: str, start: int, end: int) -> str:
    """Return a heading's words; an endless one, of which no chunk could hold the whole, is cut."""
    return " ".join(text[start : min(end, start + _MAX_TITLE_CHARS)].strip("| \t").split())
