"""One search over a chunk table as a statement: both arms, each within the scope."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from planes.shared.domain import DocumentFilter, SearchScope
from planes.shared.lexical import rarest
from planes.shared.stores.postgres_chunk_rows import (
    CHUNK_COLUMNS,
    quoted,
    table_of,
    vector_literal,
)

_SEARCH = """
WITH weights AS MATERIALIZED (
    SELECT term::tsquery AS term, idf FROM unnest($7::text[], $8::float8[]) AS w (term, idf)
), scope AS MATERIALIZED (
    SELECT id, terms, embedding FROM {table}
    WHERE tenant_id = $1 AND NOT version_id = ANY ($2)
      AND ($3::uuid[] IS NULL OR document_id = ANY ($3)) {documents}
), dense AS (
    SELECT id FROM scope ORDER BY embedding <=> $4::vector, id LIMIT $5
), lexical AS (
    SELECT s.id FROM scope s WHERE s.terms @@ $6::tsquery
    ORDER BY (SELECT sum(w.idf * ts_rank(s.terms, w.term, 1)) FROM weights w) DESC, s.id LIMIT $5
)
SELECT {columns}, 1 - (c.embedding <=> $4::vector) AS dense_score,
       coalesce((SELECT sum(w.idf * ts_rank(c.terms, w.term, 1)) FROM weights w), 0)
           AS lexical_score
FROM {table} c WHERE c.id IN (SELECT id FROM dense UNION SELECT id FROM lexical)
"""

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
    weights: Mapping[str, float], vector: NDArray[np.float32], scope: SearchScope, depth: int
) -> tuple[str, tuple[object, ...]]:
    """Return a statement and its arguments: `depth` chunks by meaning and as many by words.

    Args:
        weights: Inverse document frequency of each of the question's terms. Chunks that hold one of
            the six rarest are candidates; all terms make the score.
        vector: Of the question.
        scope: What may be seen; values are arguments, so none becomes a part of the statement.
        depth: Of each arm.
    """
    documents, wanted = filtered_documents(scope.documents, column="document_id", first=9)
    statement = _SEARCH.format(
        columns=CHUNK_COLUMNS, table=table_of(scope.generation), documents=documents
    )
    return statement, (
        scope.tenant_id,
        list(scope.hidden_versions),
        None if scope.document_ids is None else list(scope.document_ids),
        vector_literal(vector),
        depth,
        " | ".join(map(quoted, rarest(weights))),
        [quoted(term) for term in weights],
        list(weights.values()),
        *wanted,
    )


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
