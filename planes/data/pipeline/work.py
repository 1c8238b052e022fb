"""One claimed version on its way through a run."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import orjson

_CHARS_A_SECOND = 30_000  # chunked and embedded by one core
_TEXT_SHARE = {  # characters of text in a byte of a file, as real files show
    "text/plain": 1.0,
    "text/markdown": 1.0,
    "text/html": 0.7,
    "application/pdf": 0.1,
}
_OTHER_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Work:
    """A version that this run has claimed; the fields with defaults become known on the way.

    `sha256` is hexadecimal, `generation` the chunk table that it is written to.
    """

    version_id: UUID
    tenant_id: UUID
    document_id: UUID
    media_type: str
    size_bytes: int
    sha256: str
    generation: int
    language: str = ""
    chunk_count: int = 0

    @property
    def estimated_s(self) -> float:
        """Roughly how long one core needs."""
        chars = self.size_bytes * _TEXT_SHARE.get(self.media_type, _OTHER_SHARE)
        return 0.05 + chars / _CHARS_A_SECOND


def encode(works: Iterable[Work]) -> bytes:
    """Return JSON Lines."""
    option = orjson.OPT_APPEND_NEWLINE
    return b"".join(orjson.dumps(work, default=str, option=option) for work in works)


def decode(lines: bytes) -> list[Work]:
    """Return what `encode` was given."""
    found = (orjson.loads(line) for line in lines.splitlines())
    ids = ("version_id", "tenant_id", "document_id")
    return [Work(**{**row, **{name: UUID(row[name]) for name in ids}}) for row in found]
