"""Markers in an answer to quotes that are really in the passages."""

import re
from collections.abc import Sequence

from planes.serving.sentences import Span, sentence_spans
from planes.shared.analysis import terms
from planes.shared.domain import Passage
from planes.shared.wire import CitationOut

_MARKER = re.compile(r"\[(\d{1,3})\]")
_TRAILING_MARKERS = re.compile(r"(?:\s*\[\d{1,3}\])+\s*$")


class CitationTracker:
    """Reads a growing answer and cites each marker's passage when it is first cited so."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        """Store the passages; marker [1] names the first."""
        self._passages = passages
        self._text = ""
        self._read = 0
        self.citations: list[CitationOut] = []

    def feed(self, text: str) -> list[CitationOut]:
        """Add a piece of the answer and return the citations that it completes, in order."""
        self._text += text
        found: list[CitationOut] = []
        for marker in _MARKER.finditer(self._text, self._read):
            self._read = marker.end()
            citation = self._citation(int(marker.group(1)), self._text[: marker.start()])
            if citation is not None and citation not in self.citations:
                self.citations.append(citation)
                found.append(citation)
        return found

    def _citation(self, number: int, before: str) -> CitationOut | None:
        if not 1 <= number <= len(self._passages):
            return None
        passage = self._passages[number - 1]
        span = best_quote(_claim(before), passage.chunk.text, passage.chunk.language)
        return None if span is None else cite(number, passage, span)


def best_quote(claim: str, text: str, language: str) -> Span | None:
    """Return the span of the sentence of `text` that shares most words with `claim`.

    The measure is F1 over index terms; None if no sentence shares any.
    """
    wanted = set(terms(claim, language))
    best, best_score = None, 0.0
    for start, end in sentence_spans(text):
        if text[start:end] == claim:
            return start, end
        present = set(terms(text[start:end], language))
        shared = len(wanted & present)
        score = 2 * shared / (len(wanted) + len(present)) if shared else 0.0
        if score > best_score:
            best, best_score = (start, end), score
    return best


def cite(number: int, passage: Passage, span: Span) -> CitationOut | None:
    """Return the citation of `passage.chunk.text[span]`, or None where it would not hold.

    It holds if the chunk's text is as long as its offsets say and the quote, read by its offsets in
    the document, is the quoted text and not empty.
    """
    chunk = passage.chunk
    quote = chunk.text[span[0] : span[1]]
    start, end = chunk.start + span[0], chunk.start + span[1]
    is_exact = chunk.text[start - chunk.start : end - chunk.start] == quote
    if not quote or not is_exact or chunk.end - chunk.start != len(chunk.text) or end > chunk.end:
        return None
    return CitationOut(
        marker=f"[{number}]",
        document_id=chunk.document_id,
        document_name=passage.document_name,
        version=passage.version,
        page=chunk.page,
        start=start,
        end=end,
        quote=quote,
        score=passage.score,
    )


def _claim(before: str) -> str:
    """Return the sentence that a marker at the end of `before` supports."""
    supported = _TRAILING_MARKERS.sub("", before).rstrip()
    after_marker = supported[_last_marker_end(supported) :]
    spans = sentence_spans(after_marker)
    return after_marker[slice(*spans[-1])] if spans else ""


def _last_marker_end(text: str) -> int:
    return max((marker.end() for marker in _MARKER.finditer(text)), default=0)
