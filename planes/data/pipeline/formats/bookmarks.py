"""A PDF's bookmarks as headings, where their titles stand on the pages that they point to."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice

import pypdfium2

from planes.data.pipeline.extracted import ExtractedText, HeadingSpan

_MAX_BOOKMARKS = 10_000
_MAX_TITLE_CHARS = 300
_NUMBER = r"(?:[\dIVXivx]+(?:\.\d+)*\.?\s+)?"  # stands before a title on the page alone

Bookmark = tuple[int, int, str]  # level from 1, page from 0, title


def of(document: pypdfium2.PdfDocument) -> list[Bookmark]:
    """Return the bookmarks that point to a page, in their order."""
    found = []
    for bookmark in islice(document.get_toc(), _MAX_BOOKMARKS):
        target = bookmark.get_dest()
        page = target.get_index() if target else None
        title = bookmark.get_title().strip()
        if page is not None and title and len(title) <= _MAX_TITLE_CHARS:
            found.append((bookmark.level + 1, page, title))
    return found


def with_headings(extracted: ExtractedText, bookmarks: Iterable[Bookmark]) -> ExtractedText:
    """Return the text with a heading for every bookmark whose title is a line of its page."""
    headings = tuple(_headings(extracted, bookmarks))
    return ExtractedText(extracted.text, extracted.pages, headings)


def _headings(extracted: ExtractedText, bookmarks: Iterable[Bookmark]) -> Iterator[HeadingSpan]:
    """Yield the headings in the order of the text; a title that comes too late is left out."""
    position = 0
    for level, page, title in bookmarks:
        if page >= len(extracted.pages):
            continue
        span = extracted.pages[page]
        line = re.compile(rf"^[ \t]*{_NUMBER}{_spaced(title)}[ \t.:]*$", re.I | re.M)
        found = line.search(extracted.text, max(position, span.start), span.end)
        if found is not None:
            start, end = found.span()
            yield HeadingSpan(level, start, end)
            position = end


def _spaced(title: str) -> str:
    """Return a pattern for a title whose words may be divided by line breaks."""
    return r"\s+".join(map(re.escape, title.split()))
