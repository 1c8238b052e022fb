"""One search over a collection of Qdrant: both arms, each within the scope."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from qdrant_client import models

from planes.shared.domain import Arms, SearchScope
from planes.shared.index_ports import Vectors
from planes.shared.stores.qdrant_points import (
    DENSE,
    NAMED,
    WORDS,
    belongs_to,
    candidate_of,
    has_id,
    sparse,
    within,
)
from planes.shared.stores.qdrant_server import CollectionAbsent, QdrantServer
from planes.shared.stores.qdrant_settings import QdrantSettings

_OVERSAMPLING = 2.0
_RESCORED = models.QuantizationSearchParams(rescore=True, oversampling=_OVERSAMPLING)


class QdrantSearch:
    """Asks one question of one collection."""

    def __init__(self, server: QdrantServer, collection: str, settings: QdrantSettings) -> None:
        """Store what is asked."""
        self._server = server
        self._collection = collection
        self._settings = settings

    async def search(
        self,
        vector: Vectors,
        frequencies: Mapping[str, float],
        *,
        scope: SearchScope,
        document_ids: Sequence[UUID] | None,
        depth: int,
    ) -> Arms:
        """Return the best `depth` chunks by meaning and by words, with both scores.

        Two requests: one for both arms, one for the scores that each arm lacks of the other's
        chunks.

        Args:
            vector: Of the question.
            frequencies: Inverse document frequency of each of its terms.
            scope: Whose chunks, and which versions are hidden.
            document_ids: The documents that may be found; None: all.
            depth: Of each arm.
        """
        scoped = within(scope, document_ids)
        by_meaning, by_words = await self._ask(
            self._near(vector, scoped, depth), _holding(frequencies, scoped, depth)
        )
        dense, lexical = _scores(by_meaning), _scores(by_words)
        missing = lexical.keys() - dense.keys(), dense.keys() - lexical.keys()
        these = [belongs_to(scope.tenant_id, has_id(map(UUID, ids))) for ids in missing]
        more_dense, more_lexical = await self._ask(
            self._near(vector, these[0], len(missing[0]), is_complete=True),
            _holding(frequencies, these[1], len(missing[1]), is_complete=True),
        )
        dense |= _scores(more_dense)
        lexical |= _scores(more_lexical)
        found = {str(point.id): point for point in [*by_meaning, *by_words]}
        return Arms(
            tuple(
                candidate_of(point, dense.get(key), lexical.get(key, 0.0))
                for key, point in found.items()
            )
        )

    async def _ask(self, *asked: models.QueryRequest) -> list[list[models.ScoredPoint]]:
        """Return what each request finds; one that wants nothing is not sent."""
        sent = [request for request in asked if request.limit]
        if not sent:
            return [[] for _ in asked]
        try:
            answers = await self._server.call(
                lambda client: client.query_batch_points(self._collection, sent)
            )
        except CollectionAbsent:
            return [[] for _ in asked]
        points = iter([answer.points for answer in answers])
        return [next(points) if request.limit else [] for request in asked]

    def _near(
        self, vector: Vectors, scoped: models.Filter, limit: int, *, is_complete: bool = False
    ) -> models.QueryRequest:
        """Ask for the chunks closest to a vector; of all that `scoped` means if `is_complete`."""
        is_exact = is_complete or self._settings.qdrant_exact_search
        return models.QueryRequest(
            query=vector.tolist(),
            using=DENSE,
            filter=scoped,
            limit=limit,
            with_payload=False if is_complete else NAMED,
            params=models.SearchParams(
                exact=is_exact,
                hnsw_ef=None if is_exact else max(limit, self._settings.qdrant_hnsw_ef),
                quantization=_RESCORED,
            ),
        )


def _holding(
    frequencies: Mapping[str, float],
    scoped: models.Filter,
    limit: int,
    *,
    is_complete: bool = False,
) -> models.QueryRequest:
    """Ask for the chunks that hold terms of a question, with BM25; for no more if `is_complete`."""
    return models.QueryRequest(
        query=sparse(frequencies),
        using=WORDS,
        filter=scoped,
        limit=limit if frequencies else 0,
        with_payload=False if is_complete else NAMED,
    )


def _scores(points: Iterable[models.ScoredPoint]) -> dict[str, float]:
    return {str(point.id): point.score for point in points}
