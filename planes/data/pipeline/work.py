"""One claimed version on its way through a run."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from uuid import UUID

import orjson

from planes.shared.embedding_models import MODEL_NAME


@dataclass(frozen=True, slots=True)
class Work:
    """A version that this run has claimed; the fields with defaults become known on the way.

    `sha256` is hexadecimal, `generation` the chunk table that it is written to, `chunk_tokens` the
    most tokens of a chunk there, and `embedder` the model of its vectors. Versions of one `part` of
    the batch share their intermediates.
    """

    version_id: UUID
    tenant_id: UUID
    document_id: UUID
    media_type: str
    size_bytes: int
    sha256: str
    generation: int
    chunk_tokens: int = 256
    embedder: str = MODEL_NAME
    part: int = 0
    language: str = ""
    chunk_count: int = 0


def by_part(works: Iterable[Work]) -> list[tuple[int, list[Work]]]:
    """Return the parts of a batch with their works, in the order in which they were made."""
    return [(part, list(some)) for part, some in groupby(works, key=lambda work: work.part)]


def by_tenant(works: Iterable[Work]) -> list[tuple[UUID, list[Work]]]:
    """Return each tenant with its works; a transaction shows one tenant alone."""
    tenants: dict[UUID, list[Work]] = {}
    for work in works:
        tenants.setdefault(work.tenant_id, []).append(work)
    return list(tenants.items())


def encode(works: Iterable[Work]) -> bytes:
    """Return JSON Lines."""
    option = orjson.OPT_APPEND_NEWLINE
    return b"".join(orjson.dumps(work, default=str, option=option) for work in works)


def decode(lines: bytes) -> list[Work]:
    """Return what `encode` was given."""
    found = (orjson.loads(line) for line in lines.splitlines())
    ids = ("version_id", "tenant_id", "document_id")
    return [Work(**{**row, **{name: UUID(row[name]) for name in ids}}) for row in found]
