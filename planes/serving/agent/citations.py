"""Markers in an answer to quotes that are really in the passages."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import structlog

from planes.serving.agent.inert import inert
from planes.serving.sentences import Span, sentence_spans
from planes.shared.analysis import terms
from planes.shared.domain import Chunk, Passage
from planes.shared.wire import CitationOut

MARKER = re.compile(r"\[(\d{1,3})\]")
_TRAILING_MARKERS = re.compile(r"(?:\s*\[\d{1,3}\])+\s*$")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"(?<=\d)[.,\u00a0\u202f](?=\d{3}(?!\d))")
_MIN_SHARED_TERMS = 2
_log = structlog.get_logger(__name__)


class CitationTracker:
    """Reads a growing answer and cites each marker's passage when it is first cited so."""

    def __init__(self, passages: Sequence[Passage | None]) -> None:
        """Store the passages; marker [1] names the first, None one that the model did not see."""
        self._passages = passages
        self._text = ""
        self._read = 0
        self.citations: list[CitationOut] = []
        self.supported: list[Span] = []
        """Where in the answer the claims stand, each up to its marker, that citations support."""

    def feed(self, text: str) -> list[CitationOut]:
        """Add a piece of the answer and return the citations that it completes, in order."""
        self._text += text
        found: list[CitationOut] = []
        for marker in MARKER.finditer(self._text, self._read):
            self._read = marker.end()
            citation = self._citation(int(marker.group(1)), marker.start())
            if citation is not None and citation not in self.citations:
                self.citations.append(citation)
                found.append(citation)
        return found

    def _citation(self, number: int, marker_start: int) -> CitationOut | None:
        passage = self._passages[number - 1] if 1 <= number <= len(self._passages) else None
        if passage is None:
            return None
        claims = _claims(self._text[:marker_start])
        for claim_start, claim_end in claims:
            claim = self._text[claim_start:claim_end]
            is_last = (claim_start, claim_end) == claims[-1]
            for one, span in _quotes(claim, _apart(passage), in_other_words=is_last):
                if (citation := cite(number, one, span)) is not None:
                    self.supported.append((claim_start, marker_start))
                    return citation
        return None


def _quotes(
    claim: str, passages: Sequence[Passage], *, in_other_words: bool
) -> Iterator[tuple[Passage, Span]]:
    """Yield what says the same as a claim: word by word in any passage before in other words."""
    others: list[Passage] = []
    for one in passages:
        if (span := verbatim_quote(claim, one.chunk.text)) is not None:
            yield one, span
        else:
            others.append(one)
    for one in others if in_other_words else ():
        if (span := best_quote(claim, one.chunk.text, one.chunk.language)) is not None:
            yield one, span


def _apart(passage: Passage) -> list[Passage]:
    """Return the passage and each chunk beside it, to be quoted alone: no gap is stored."""
    return [replace(passage, chunk=chunk, beside=()) for chunk in (passage.chunk, *passage.beside)]


def verbatim_quote(claim: str, text: str) -> Span | None:
    """Return the span of the sentences of `text` that `claim` repeats word by word, else None."""
    wanted, spans = _words(claim), sentence_spans(text)
    for first, (start, _) in enumerate(spans):
        found: list[str] = []
        for left, right in spans[first:]:
            found += _words(text[left:right])
            if found == wanted:
                return start, right
            if found != wanted[: len(found)]:
                break
    return None


def best_quote(claim: str, text: str, language: str) -> Span | None:
    """Return the span of the sentence of `text` that supports `claim` best, None if none does.

    The measure is F1 over index terms, among the sentences that hold at least half of the claim's
    terms, two of them at least unless it has but one, and all of its numbers.
    """
    wanted = set(terms(claim, language))
    best, best_score = None, 0.0
    for start, end in sentence_spans(text):
        sentence = text[start:end]
        if sentence == claim:
            return start, end
        if not _numbers(claim) <= _numbers(sentence):
            continue
        present = set(terms(sentence, language))
        shared = len(wanted & present)
        is_enough = 2 * shared >= len(wanted) and shared >= min(_MIN_SHARED_TERMS, len(wanted))
        score = 2 * shared / (len(wanted) + len(present)) if shared and is_enough else 0.0
        if score > best_score:
            best, best_score = (start, end), score
    return best


def cite(number: int, passage: Passage, span: Span) -> CitationOut | None:
    """Return the citation of `passage.chunk.text[span]`, or None where it would not hold.

    What `holds` refuses is logged: it is a defect of the index or of ours.
    """
    chunk = passage.chunk
    citation = CitationOut(
        marker=f"[{number}]",
        document_id=chunk.document_id,
        document_name=passage.document_name,
        version=passage.version,
        page=chunk.page,
        start=chunk.start + span[0],
        end=chunk.start + span[1],
        quote=chunk.text[slice(*span)],
        score=passage.score,
    )
    if holds(citation, chunk):
        return citation
    _log.error("citation dropped", chunk_id=str(chunk.id), start=citation.start, end=citation.end)
    return None


def holds(citation: CitationOut, chunk: Chunk) -> bool:
    """Tell whether the quote that goes out is what the chunk holds at the citation's offsets.

    This proves that quote and offsets agree with the chunk, and the chunk's text with its length.
    It does not read the document: that a chunk's text is its slice of the stored text is checked by
    ingestion, before a version is published.
    """
    start, end = citation.start - chunk.start, citation.end - chunk.start
    fits = chunk.end - chunk.start == len(chunk.text) and 0 <= start < end <= len(chunk.text)
    return fits and chunk.text[start:end] == citation.quote


def _numbers(text: str) -> set[str]:
    return set(_NUMBER.findall(_THOUSANDS.sub("", text)))


def _words(text: str) -> list[str]:
    """Return words only: an answer drops line breaks, and brackets that look like its markers."""
    return _WORD.findall(inert(MARKER.sub("", text)))


def _claims(before: str) -> list[Span]:
    """Return what a marker at the end of `before` may support.

    That is all since the marker before it, where it is word by word in the passage, and else the
    last sentence of that.
    """
    end = len(_TRAILING_MARKERS.sub("", before).rstrip())
    start = max((marker.end() for marker in MARKER.finditer(before, 0, end)), default=0)
    spans = [(start + a, start + b) for a, b in sentence_spans(before[start:end])]
    if not spans:
        return []
    return list(dict.fromkeys([(spans[0][0], spans[-1][1]), spans[-1]]))
