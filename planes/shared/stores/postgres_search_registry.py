"""What a search in another store needs of the registry, which stays in PostgreSQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from planes.shared.analysis import terms
from planes.shared.domain import SearchScope
from planes.shared.errors import InvalidInput
from planes.shared.lexical import KnownTerms
from planes.shared.stores.postgres import Connection, Database
from planes.shared.stores.postgres_search import filtered_documents

MOST_DOCUMENTS = 50_000
_LANGUAGES = """
SELECT language, chunks FROM corpus_languages WHERE tenant_id = $1 AND generation = $2
"""
_FREQUENCIES = """
SELECT term, chunks FROM term_frequencies
WHERE tenant_id = $1 AND generation = $2 AND term = ANY ($3)
"""
_DOCUMENTS = """
SELECT o.id FROM documents o WHERE o.tenant_id = $1 AND ($2::uuid[] IS NULL OR o.id = ANY ($2))
  {documents}
ORDER BY o.id LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class SearchedCorpus:
    """The registry's part of one search.

    Attributes:
        weights: The inverse document frequency of each of the question's terms that the corpus
            knows.
        document_ids: The documents that may be found, `scope.documents` applied; None: all.
    """

    weights: Mapping[str, float]
    document_ids: tuple[UUID, ...] | None


class SearchRegistry:
    """Reads term weights, and resolves filters of documents to their ids."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def corpus(self, question: str, scope: SearchScope) -> SearchedCorpus:
        """Return what a search for `question` in `scope` needs to know.

        Documents without a searchable version may be among the ids; hidden versions stay in the
        scope.

        Raises:
            InvalidInput: The filter means more than 50,000 documents.
            Unavailable: The database does not answer.
        """
        async with self._database.tenant(scope.tenant_id) as connection:
            known = await known_terms(connection, question, scope)
            return SearchedCorpus(known.weights, await _documents(connection, scope))


async def known_terms(connection: Connection, question: str, scope: SearchScope) -> KnownTerms:
    """Return what the corpus knows of a question's terms."""
    languages = await connection.fetch(_LANGUAGES, scope.tenant_id, scope.generation)
    total = sum(row["chunks"] for row in languages)
    wanted = {term for row in languages for term in terms(question, row["language"])}
    counts = await connection.fetch(_FREQUENCIES, scope.tenant_id, scope.generation, sorted(wanted))
    return KnownTerms({row["term"]: row["chunks"] for row in counts}, total)


async def _documents(connection: Connection, scope: SearchScope) -> tuple[UUID, ...] | None:
    if scope.documents is None:
        return scope.document_ids
    given = None if scope.document_ids is None else list(scope.document_ids)
    documents, wanted = filtered_documents(scope.documents, column="o.id", first=4)
    rows = await connection.fetch(
        _DOCUMENTS.format(documents=documents), scope.tenant_id, given, MOST_DOCUMENTS + 1, *wanted
    )
    if len(rows) > MOST_DOCUMENTS:
        raise InvalidInput(
            f"The filter means more than {MOST_DOCUMENTS:,} documents. Narrow it, or leave it out."
        )
    return tuple(row["id"] for row in rows)
