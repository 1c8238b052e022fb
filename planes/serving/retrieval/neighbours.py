"""What stands before and behind passages in their documents, for models that read on."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from planes.shared.domain import Chunk, Passage, SearchScope
from planes.shared.index_ports import ChunkReader

_EXPANDED = 3  # passages, the best ones

Place = tuple[UUID, int]


class Neighbours:
    """Reads the chunks beside chunks."""

    def __init__(self, chunks: ChunkReader) -> None:
        """Store where chunks are kept."""
        self._chunks = chunks

    async def expand(self, passages: Sequence[Passage], scope: SearchScope) -> tuple[Passage, ...]:
        """Return the passages; each of the first three with the chunks next to it in its version.

        No chunk comes twice: neither one that is a passage itself, nor one that a better passage
        has. The order, and what is quoted by it, stay as they were.

        Raises:
            Unavailable: The store does not answer.
        """
        wanted = _wanted(passages, scope)
        if not wanted:
            return tuple(passages)
        found = await self._chunks.chunks_at(
            scope.tenant_id, list(wanted), generation=scope.generation
        )
        beside: dict[int, list[Chunk]] = {}
        for chunk in found:
            beside.setdefault(wanted[_place(chunk)], []).append(chunk)
        return tuple(
            replace(passage, beside=tuple(beside.get(number, ())))
            for number, passage in enumerate(passages)
        )


def _wanted(passages: Sequence[Passage], scope: SearchScope) -> dict[Place, int]:
    """Return the places of neighbours, each with the number of the passage that gets it."""
    taken = {_place(passage.chunk) for passage in passages}
    wanted: dict[Place, int] = {}
    for number, passage in enumerate(passages[:_EXPANDED]):
        version_id, ordinal = _place(passage.chunk)
        if version_id in scope.hidden_versions:
            continue
        for place in ((version_id, ordinal - 1), (version_id, ordinal + 1)):
            if place not in taken and place[1] >= 0:
                wanted.setdefault(place, number)
    return wanted


def _place(chunk: Chunk) -> Place:
    return chunk.version_id, chunk.ordinal
