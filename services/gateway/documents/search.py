"""Search without an answer."""

from collections.abc import Sequence

from planes.shared.clients.serving import ServingClient
from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Database
from planes.shared.wire import PassageOut, Scope, SearchRequest
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.documents.schemas import SearchInput
from services.gateway.tracing import current_trace_id


class SearchService:
    """Asks the serving plane, with the tenant's hidden versions."""

    def __init__(self, database: Database, serving: ServingClient, metrics: GatewayMetrics) -> None:
        """Store the parts."""
        self._database = database
        self._serving = serving
        self._metrics = metrics

    async def search(self, wanted: SearchInput, context: TenantContext) -> Sequence[PassageOut]:
        """Return the best passages, best first.

        Raises:
            Unavailable: The database or the serving plane does not answer.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            row = await connection.fetchrow(
                "SELECT s.*, corpus_version_of($1) AS corpus_version FROM search_scope($1) s",
                context.tenant_id,
            )
        assert row is not None  # noqa: S101 (the function returns one row)
        scope = Scope(
            generation=row["live_generation"],
            hidden_versions=tuple(row["hidden_versions"]),
            document_ids=None if wanted.document_ids is None else tuple(wanted.document_ids),
            documents=wanted.documents(),
            corpus_version=row["corpus_version"],
        )
        request = SearchRequest(query=wanted.query, scope=scope, top_k=wanted.top_k)
        found = await self._serving.search(request, context, current_trace_id())
        self._metrics.count_lookups(found.caches)
        return found.passages
