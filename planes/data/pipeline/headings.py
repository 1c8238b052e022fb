"""Which headings stand above a place in the text."""

from bisect import bisect_right
from collections.abc import Iterator

from planes.data.pipeline.extracted import ExtractedText

SEPARATOR = " > "
Titles = tuple[str, ...]


class Outline:
    """The headings of a text as a tree; a section begins with the line of its heading."""

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
            open_headings.append((span.level, " ".join(text[span.start : span.end].split())))
            self._paths.append(tuple(title for _, title in open_headings))
        self._length = len(text)

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

        A heading does not stand above its own line.
        """
        index = bisect_right(self._lines, position) - 1
        if index < 0:
            return ()
        return self._parents[index] if position < self._ends[index] else self._paths[index]

    def above_any(self, start: int, end: int) -> set[Titles]:
        """Return every result that `above` can have for a place in this range."""
        inside = [end for end in self._ends if start < end]
        return {self.above(start)}.union(self.above(place) for place in inside if place < end)
