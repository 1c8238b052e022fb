"""Text to sentences, with exact offsets.

Sentences are what the platform quotes, so a sentence never crosses a paragraph and keeps the text
as it stands, line breaks included.
"""

import re
from collections.abc import Iterator

Span = tuple[int, int]

_PARAGRAPH = re.compile(r"\n[ \t]*(?:\n\s*|(?=[-*\u2022\u2013|#>]|\d{1,3}[.)] ))")
_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019)\]]*(?:\[[^\[\]]{1,20}\])*(?=\s)|[\u3002\uff01\uff1f]+[\u300d\u300f\u201d]*"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'\u201c])(?:[A-Za-z]|[A-Za-z](?:\.[A-Za-z])+|"
    r"Mr|Mrs|Ms|Dr|Prof|Sr|Jr|St|Mt|Gen|Col|Lt|Capt|Sen|Rep|Gov|Rev|Hon|No|Nos|Vol|[Ff]igs?|[Ee]q|Sec|Ch|pp|ca|cf|vs|etc|al|approx|est|"
    r"Inc|Ltd|Co|Corp|Bros|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|bzw|usw|Nr)\.$"
)
_LOWER = re.compile(r"\s+[a-z,;]")
_MAX_CHARS = 600


def sentence_spans(text: str) -> list[Span]:
    """Return the half-open spans of the sentences of `text`, in order, without outer whitespace."""
    spans: list[Span] = []
    start = 0
    for boundary in _PARAGRAPH.finditer(text):
        spans.extend(_paragraph_spans(text, start, boundary.start()))
        start = boundary.end()
    spans.extend(_paragraph_spans(text, start, len(text)))
    return spans


def _paragraph_spans(text: str, start: int, end: int) -> Iterator[Span]:
    first = start
    for ending in _END.finditer(text, start, end):
        if _is_sentence_end(text, first, ending, end):
            yield from _bounded(text, first, ending.end())
            first = ending.end()
    yield from _bounded(text, first, end)


def _is_sentence_end(text: str, first: int, ending: re.Match[str], end: int) -> bool:
    if ending.group() == "." and _ABBREVIATION.search(
        text, max(first, ending.start() - 12), ending.end()
    ):
        return False
    return _LOWER.match(text, ending.end(), end) is None


def _bounded(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the stripped span; one that is too long to quote is cut at its line breaks."""
    if end - start > _MAX_CHARS and "\n" in text[start:end].strip():
        for line in re.finditer(r"[^\n]+", text[start:end]):
            yield from _stripped(text, start + line.start(), start + line.end())
        return
    yield from _stripped(text, start, end)


def _stripped(text: str, start: int, end: int) -> Iterator[Span]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    if any(character.isalnum() for character in text[start:end]):
        yield start, end
