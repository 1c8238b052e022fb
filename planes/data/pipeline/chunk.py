"""Extracted text to chunks: sections where they fit, otherwise split by semchunk.

semchunk (https://github.com/isaacus-dev/semchunk) splits at the largest structural break that keeps
every piece within the token limit.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from semchunk import semchunk
from tokenizers import Tokenizer

from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.headings import SEPARATOR, Outline, Titles

MAX_TOKENS = 256
_SPECIAL_TOKENS = 2  # [CLS] and [SEP]
_HEADING_TOKENS = 48
_SMALL_SECTION_TOKENS = 96  # a section below this joins the next one
_SPLIT_AGAIN = 5  # pieces that make room for a heading, so that the last of them is no crumb
_LONGEST_SECTION = 100_000  # characters that are split in one go, however long a section is
_CHARS_A_TOKEN = 10  # the model reads a word of more than 100 characters as one unknown token


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A span of the text: `text == extracted.text[start:end]`, never blank, all on one page."""

    start: int
    end: int
    page: int | None
    heading: str
    text: str


def embedded_text(heading: str, text: str) -> str:
    """Return what the embedder reads of a chunk."""
    return f"{heading}\n{text}" if heading else text


class Chunker:
    """Splits texts so that heading, text and special tokens stay within a number of tokens."""

    def __init__(self, tokenizer: Tokenizer, *, max_tokens: int = MAX_TOKENS) -> None:
        """Store the embedder's tokenizer, which must neither truncate nor pad, and the limit."""
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._count = lru_cache(maxsize=8192)(self._count_tokens)

    def chunk(self, extracted: ExtractedText) -> Iterator[TextChunk]:
        """Yield the chunks in order; together they hold every character that is not white space."""
        outline = Outline(extracted)
        page_starts = [span.start for span in extracted.pages]
        sections = self._sections(extracted.text, outline)
        short = _shortened(extracted.text, _divided(sections, page_starts))
        for first, last in short:
            widest = max(self._count(self._fitting(t)) for t in outline.above_any(first, last))
            section = extracted.text[first:last]
            for start, end in self._split(section, self._max_tokens - _SPECIAL_TOKENS - widest):
                page = bisect_right(page_starts, first + start)
                yield TextChunk(
                    start=first + start,
                    end=first + end,
                    page=extracted.pages[max(page, 1) - 1].page if page_starts else None,
                    heading=self._fitting(outline.above(first + start)),
                    text=section[start:end],
                )

    def _split(self, section: str, budget: int) -> list[tuple[int, int]]:
        """Return the spans of a section's pieces; no piece is a heading alone.

        One that the splitter leaves alone before a long paragraph or table joins what follows.
        """
        spans = self._pieces(section, budget)
        longest = min(_HEADING_TOKENS, budget // 4)
        if len(spans) < 2 or self._count(section[slice(*spans[0])]) > longest:
            return spans
        first, place = spans[0][0], spans[1][0]
        again = section[place : spans[:_SPLIT_AGAIN][-1][1]]
        room = budget - self._count(section[first:place]) - 1
        rest = [(place + start, place + end) for start, end in self._pieces(again, room)]
        return [(first, rest[0][1]), *rest[1:], *spans[_SPLIT_AGAIN:]]

    def _pieces(self, section: str, budget: int) -> list[tuple[int, int]]:
        chunked: Any = semchunk.chunk(section, budget, self._count, memoize=False, offsets=True)
        return [span for piece, span in zip(*chunked, strict=True) if piece.strip()]

    def _sections(self, text: str, outline: Outline) -> Iterator[tuple[int, int]]:
        """Yield the spans to split, small neighbours of the same or a deeper level joined."""
        top, first, last = 0, 0, 0
        for level, start, end in outline.sections():
            if last > first and (level < top or not self._is_small(text[first:last])):
                yield first, last
                top, first = level, start
            elif last == first:
                top = level
            last = end
        if last > first:
            yield first, last

    def _is_small(self, section: str) -> bool:
        longest = _SMALL_SECTION_TOKENS * _CHARS_A_TOKEN
        return len(section) < longest and self._count(section) < _SMALL_SECTION_TOKENS

    def _fitting(self, titles: Titles) -> str:
        """Return the breadcrumb, without its highest titles where it would be too long."""
        while len(titles) > 1 and self._count(SEPARATOR.join(titles)) > _HEADING_TOKENS:
            titles = titles[1:]
        breadcrumb = SEPARATOR.join(titles)
        if self._count(breadcrumb) <= _HEADING_TOKENS:
            return breadcrumb
        breadcrumb = breadcrumb[: _HEADING_TOKENS * _CHARS_A_TOKEN]
        offsets = self._tokenizer.encode(breadcrumb, add_special_tokens=False).offsets
        return breadcrumb[: offsets[:_HEADING_TOKENS][-1][1]]

    def _count_tokens(self, text: str) -> int:
        tokens = len(self._tokenizer.encode(text, add_special_tokens=False))
        return max(tokens, len(text) // _CHARS_A_TOKEN)


def _divided(spans: Iterable[tuple[int, int]], places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the spans, divided at the places inside them; places are in order."""
    for first, last in spans:
        inside = places[bisect_right(places, first) : bisect_left(places, last)]
        yield from pairwise([first, *dict.fromkeys(inside), last])


def _shortened(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the spans, long ones divided behind a line or, where there is none, anywhere."""
    for first, last in spans:
        while last - first > _LONGEST_SECTION:
            end = first + _LONGEST_SECTION
            end = text.rfind("\n", first + _LONGEST_SECTION // 2, end) + 1 or end
            yield first, end
            first = end
        yield first, last
