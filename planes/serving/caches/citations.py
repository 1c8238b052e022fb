"""Whether citations that were made earlier hold now."""

from collections.abc import Sequence

from planes.shared.domain import SearchScope
from planes.shared.stores.living_versions import LIVING_VERSIONS
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import table_of
from planes.shared.wire import CitationOut

_HOLDING = """
SELECT count(*) FROM unnest($3::uuid[], $4::int[], $5::int[], $6::int[], $7::text[])
    AS q (document_id, number, span_start, span_end, quote)
WHERE EXISTS (
    SELECT FROM {living} JOIN {table} c ON c.version_id = v.id
    WHERE d.tenant_id = $1 AND d.id = q.document_id
      AND v.number = q.number AND NOT v.id = ANY ($2)
      AND c.tenant_id = $1 AND c.char_start <= q.span_start AND c.char_end >= q.span_end
      AND substr(c.body, q.span_start - c.char_start + 1, q.span_end - q.span_start) = q.quote
)
"""


class CitationCheck:
    """Looks citations up in the index."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def hold(self, citations: Sequence[CitationOut], scope: SearchScope) -> bool:
        """Tell whether every quote stands where its citation says, in a living version in `scope`.

        A quote that reaches over the end of a chunk is not found.

        Raises:
            Unavailable: The database does not answer.
        """
        if not citations:
            return True
        async with self._database.tenant(scope.tenant_id) as connection:
            found = await connection.fetchval(
                _HOLDING.format(living=LIVING_VERSIONS, table=table_of(scope.generation)),
                scope.tenant_id,
                list(scope.hidden_versions),
                [citation.document_id for citation in citations],
                [citation.version for citation in citations],
                [citation.start for citation in citations],
                [citation.end for citation in citations],
                [citation.quote for citation in citations],
            )
        return bool(found == len(citations))
