"""Whether citations that were made earlier hold now."""

from collections.abc import Sequence
from uuid import UUID

from planes.shared.domain import Chunk, SearchScope
from planes.shared.index_ports import ChunkReader
from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Database
from planes.shared.wire import CitationOut

_VERSIONS = """
SELECT v.id, d.id AS document_id, v.number FROM {living}
JOIN unnest($3::uuid[], $4::int[]) AS q (document_id, number)
  ON q.document_id = d.id AND q.number = v.number
WHERE d.tenant_id = $1 AND NOT v.id = ANY ($2)
"""


class CitationCheck:
    """Looks citations up in the index."""

    def __init__(self, database: Database, chunks: ChunkReader) -> None:
        """Store the registry, and where chunks are kept."""
        self._database = database
        self._chunks = chunks

    async def hold(self, citations: Sequence[CitationOut], scope: SearchScope) -> bool:
        """Tell whether every quote stands where its citation says, in a living version in `scope`.

        A quote that reaches over the end of a chunk is not found.

        Raises:
            Unavailable: A store does not answer.
        """
        if not citations:
            return True
        versions = await self._living(citations, scope)
        cited = [(versions.get((one.document_id, one.version)), one) for one in citations]
        spans = [(version, one.start, one.end) for version, one in cited if version is not None]
        if len(spans) < len(citations):
            return False
        chunks = await self._chunks.chunks_around(
            scope.tenant_id, spans, generation=scope.generation
        )
        return all(
            any(chunk.version_id == version and _holds(chunk, one) for chunk in chunks)
            for version, one in cited
        )

    async def _living(
        self, citations: Sequence[CitationOut], scope: SearchScope
    ) -> dict[tuple[UUID, int], UUID]:
        """Return the ids of cited versions by document and number."""
        async with self._database.tenant(scope.tenant_id) as connection:
            rows = await connection.fetch(
                _VERSIONS.format(living=LIVING_VERSIONS),
                scope.tenant_id,
                list(scope.hidden_versions),
                [citation.document_id for citation in citations],
                [citation.version for citation in citations],
            )
        return {(row["document_id"], row["number"]): row["id"] for row in rows}


def _holds(chunk: Chunk, citation: CitationOut) -> bool:
    if not chunk.start <= citation.start <= citation.end <= chunk.end:
        return False
    return chunk.text[citation.start - chunk.start : citation.end - chunk.start] == citation.quote
