"""One search over a chunk table as a statement: both arms, each within the scope."""

from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from planes.shared.domain import DocumentFilter, SearchScope
from planes.shared.lexical import KnownTerms, rarest, selective, together
from planes.shared.stores.postgres_chunk_rows import quoted, vector_literal

_SEARCH = """
SELECT id, document_id, version_id, dense, lexical
FROM search_chunks($1, $2, $3, $4, {documents}, $6::vector, $7, $8::tsquery,
                            $9::text[]::tsquery[], $10)
"""
_GIVEN = "$5::uuid[]"
_THOSE = """ARRAY(
    SELECT o.id FROM documents o
    WHERE o.tenant_id = $1 AND ($5::uuid[] IS NULL OR o.id = ANY ($5)) {documents})"""

_FILTERED = """AND {column} IN (
    SELECT d.id FROM documents d
    WHERE d.tenant_id = $1 AND d.deleted_at IS NULL
      AND (${tags}::text[] IS NULL OR d.tags && ${tags})
      AND (${uploaded_from}::timestamptz IS NULL OR d.created_at >= ${uploaded_from})
      AND (${uploaded_to}::timestamptz IS NULL OR d.created_at < ${uploaded_to})
      AND d.metadata @> ${metadata}::jsonb
      AND NOT EXISTS (
        SELECT FROM jsonb_to_recordset(${conditions}::jsonb)
            AS c (key text, comparison text, value jsonb),
            LATERAL (SELECT d.metadata -> c.key, (d.metadata ->> c.key) COLLATE "C",
                            (c.value #>> '{{}}') COLLATE "C") AS m (held, held_text, value_text)
        WHERE NOT coalesce(CASE
            WHEN c.comparison = 'in' THEN EXISTS (
                SELECT FROM jsonb_array_elements(c.value) v
                WHERE d.metadata @> jsonb_build_object(c.key, v))
            WHEN jsonb_typeof(m.held) <> jsonb_typeof(c.value) THEN false
            WHEN jsonb_typeof(c.value) = 'string' THEN CASE c.comparison
                WHEN 'gte' THEN m.held_text >= m.value_text
                WHEN 'lte' THEN m.held_text <= m.value_text END
            WHEN c.comparison = 'gte' THEN m.held >= c.value
            WHEN c.comparison = 'lte' THEN m.held <= c.value
        END, false)))"""
"""Texts compare by code points, whatever the collation of the database."""


def search_statement(
    known: KnownTerms, vector: NDArray[np.float32], scope: SearchScope, depth: int
) -> tuple[str, tuple[object, ...]]:
    """Return a statement and its arguments: `depth` chunks by meaning and as many by words.

    Args:
        known: The question's terms. Chunks that hold one of the six rarest are candidates; without
            a choice of documents, of the `selective` ones of them, or several `together`. All
            terms make the score.
        vector: Of the question.
        scope: What may be seen; values are arguments, so none becomes a part of the statement.
        depth: Of each arm.
    """
    documents, wanted = filtered_documents(scope.documents, column="o.id", first=11)
    weights = known.weights
    statement = _SEARCH.format(
        documents=_GIVEN if scope.documents is None else _THOSE.format(documents=documents)
    )
    return statement, (
        scope.tenant_id,
        scope.generation,
        known.total,
        list(scope.hidden_versions),
        None if scope.document_ids is None else list(scope.document_ids),
        vector_literal(vector),
        depth,
        _candidates(known, is_of_all=scope.documents is None and scope.document_ids is None),
        [quoted(term) for term in weights],
        list(weights.values()),
        *wanted,
    )


def _candidates(known: KnownTerms, *, is_of_all: bool) -> str:
    """Return which words a chunk must hold to be found by them.

    How many chunks hold a word is known of all documents together, and says nothing of a choice.
    """
    terms = rarest(known.weights)
    if not is_of_all:
        return " | ".join(map(quoted, terms))
    if needed := together(terms, known):
        return " & ".join(map(quoted, needed))
    return " | ".join(map(quoted, selective(terms, known)))


def filtered_documents(
    wanted: DocumentFilter | None, *, column: str, first: int
) -> tuple[str, tuple[object, ...]]:
    """Return a condition on a document's id and its arguments; both empty where none is wanted.

    Args:
        wanted: Which documents are meant; `$1` of the statement is their tenant.
        column: The id, as the statement names it.
        first: The number of the first argument.
    """
    if wanted is None:
        return "", ()
    arguments = {
        "tags": None if wanted.tags is None else list(wanted.tags),
        "uploaded_from": wanted.uploaded_from,
        "uploaded_to": wanted.uploaded_to,
        "metadata": wanted.metadata,
        "conditions": [asdict(condition) for condition in wanted.conditions],
    }
    numbers = {name: number for number, name in enumerate(arguments, start=first)}
    return _FILTERED.format(column=column, **numbers), tuple(arguments.values())
