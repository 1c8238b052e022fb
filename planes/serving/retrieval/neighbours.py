"""What stands before and behind passages in their documents, for models that read on."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from planes.shared.domain import Chunk, Passage, SearchScope
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chunk_rows import CHUNK_COLUMNS, chunk_of, table_of

_EXPANDED = 3  # passages, the best ones

_NEIGHBOURS = """
SELECT {columns} FROM {table} c
JOIN unnest($3::uuid[], $4::int[]) AS w (version_id, ordinal)
  ON w.version_id = c.version_id AND w.ordinal = c.ordinal
WHERE c.tenant_id = $1 AND NOT c.version_id = ANY ($2)
"""

Place = tuple[UUID, int]


class Neighbours:
    """Reads the chunks beside chunks."""

    def __init__(self, database: Database) -> None:
        """Store the database."""
        self._database = database

    async def expand(self, passages: Sequence[Passage], scope: SearchScope) -> tuple[Passage, ...]:
        """Return the passages; each of the first three with the chunks next to it in its version.

        No chunk comes twice: neither one that is a passage itself, nor one that a better passage
        has. The order, and what is quoted by it, stay as they were.

        Raises:
            Unavailable: The database does not answer.
        """
        wanted = _wanted(passages)
        if not wanted:
            return tuple(passages)
        query = _NEIGHBOURS.format(columns=CHUNK_COLUMNS, table=table_of(scope.generation))
        versions, ordinals = zip(*wanted, strict=True)
        async with self._database.tenant(scope.tenant_id) as connection:
            rows = await connection.fetch(
                query, scope.tenant_id, list(scope.hidden_versions), versions, ordinals
            )
        beside: dict[int, list[Chunk]] = {}
        for chunk in map(chunk_of, rows):
            beside.setdefault(wanted[_place(chunk)], []).append(chunk)
        return tuple(
            replace(passage, beside=tuple(beside.get(number, ())))
            for number, passage in enumerate(passages)
        )


def _wanted(passages: Sequence[Passage]) -> dict[Place, int]:
    """Return the places of neighbours, each with the number of the passage that gets it."""
    taken = {_place(passage.chunk) for passage in passages}
    wanted: dict[Place, int] = {}
    for number, passage in enumerate(passages[:_EXPANDED]):
        version_id, ordinal = _place(passage.chunk)
        for place in ((version_id, ordinal - 1), (version_id, ordinal + 1)):
            if place not in taken and place[1] >= 0:
                wanted.setdefault(place, number)
    return wanted


def _place(chunk: Chunk) -> Place:
    return chunk.version_id, chunk.ordinal
