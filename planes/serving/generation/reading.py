"""What a passage's text holds whatever is asked: read once, and kept for the next question."""

import re
from dataclasses import dataclass
from uuid import UUID

from planes.serving.caches.bounded import BoundedCache
from planes.serving.generation.tokens import TokenCounter
from planes.serving.sentences import sentence_spans
from planes.shared.analysis import terms
from planes.shared.domain import Chunk

_CACHE_BYTES = 32 << 20  # some 3,000 passages
_STATEMENT_BYTES = 1000  # a set of about ten terms, which the analyser holds anyway
_TEXT_SHARE = 3  # bytes a character: of the key's text, which may be wide
_HEADING = re.compile(r"#{1,6}\s")
_FULL_STOP = re.compile(r"[.!?\u2026\u3002\uff01\uff1f][\"'\u201d\u2019)\]]*$")
_TITLE_WORDS = 4


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence that says something, at `text[start:end]`, and its index terms."""

    start: int
    end: int
    terms: frozenset[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """A passage's length in tokens, and its sentences in order, without headings and labels."""

    tokens: int
    statements: tuple[Statement, ...]


class PassageReader:
    """Reads passages; those of a tenant that were asked for lately are known.

    Tenants share nothing: how fast an answer comes tells nobody what others have.
    """

    def __init__(self, tokens: TokenCounter, *, max_bytes: int = _CACHE_BYTES) -> None:
        """Store what counts tokens, and about how many bytes may be kept."""
        self._tokens = tokens
        self._kept: BoundedCache[tuple[UUID, str, str], Reading] = BoundedCache(max_bytes=max_bytes)

    def read(self, chunk: Chunk) -> Reading:
        """Return what a chunk's text holds; it is found by tenant, language and the text itself."""
        key = chunk.tenant_id, chunk.language, chunk.text
        reading = self._kept.get(key)
        if reading is None:
            reading = Reading(self._tokens.count(chunk.text), _statements(chunk))
            size = _TEXT_SHARE * len(chunk.text) + _STATEMENT_BYTES * len(reading.statements)
            self._kept.put(key, reading, size)
        return reading


def _statements(chunk: Chunk) -> tuple[Statement, ...]:
    return tuple(
        Statement(start, end, frozenset(terms(chunk.text[start:end], chunk.language)))
        for start, end in sentence_spans(chunk.text)
        if _says_something(chunk.text[start:end])
    )


def _says_something(text: str) -> bool:
    """Tell sentences, list items and table rows from headings and from labels of forms."""
    if _HEADING.match(text) or text.endswith(":"):
        return False
    return bool(_FULL_STOP.search(text)) or len(text.split()) > _TITLE_WORDS
