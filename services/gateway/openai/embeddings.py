"""Vectors for the caller's own use: reserved before the work, billed when they are there."""

import asyncio
import contextlib
import sys
from array import array
from base64 import b64decode
from decimal import Decimal
from uuid import UUID

from planes.shared.clients.serving import ServingClient
from planes.shared.domain import TenantContext, new_id
from planes.shared.errors import InvalidInput, PlatformError, Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.wire import EmbedRequest, EmbedResponse
from services.gateway.admin.health import ServingMonitor
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.auth.models import Account
from services.gateway.billing.prices import money
from services.gateway.idempotency.models import StoredResponse
from services.gateway.idempotency.service import Effect
from services.gateway.openai import embedding_repository as repository
from services.gateway.openai.embedding_repository import EmbeddingIntent
from services.gateway.openai.errors import no_model
from services.gateway.openai.schemas import (
    Embedding,
    Embeddings,
    EmbeddingsRequest,
    EmbeddingsUsage,
)
from services.gateway.tracing import current_trace_id

_MOST_TOKENS = 512  # of one text; the plane reads no more, whatever its model
_TOKENS_A_CHARACTER = 4  # at most: what a character decomposes into (Unicode's NFD)
_SPECIAL_TOKENS = 2


class EmbeddingService:
    """Embeds texts for callers."""

    def __init__(
        self,
        database: Database,
        serving: ServingClient,
        monitor: ServingMonitor,
        metrics: GatewayMetrics,
    ) -> None:
        """Store the parts."""
        self._database = database
        self._serving = serving
        self._monitor = monitor
        self._metrics = metrics

    async def embed(
        self, account: Account, request: EmbeddingsRequest, effect: Effect
    ) -> Embeddings:
        """Return one vector a text, billed for the tokens that were read.

        Raises:
            ModelNotFound: The model does not embed here.
            QuotaExceeded: Before any work.
            InvalidInput: A text is too long, or the model has other dimensions.
            Unavailable: The database or the serving plane does not answer; nothing was billed.
        """
        context, wanted = account.context, self._wanted(request)
        intent = EmbeddingIntent(new_id(), request.model, sum(map(_most_tokens, request.input)))
        async with self._database.platform() as connection:
            await repository.reserve(connection, context, intent)
        try:
            embedded = await self._embedded(wanted, context)
            answer = await asyncio.to_thread(_answer, embedded, request)
            answer = await self._settled(context, intent.request_id, answer, effect)
        except BaseException:
            await asyncio.shield(self._release(context, intent.request_id))
            raise
        self._metrics.tokens.labels("embedding", embedded.model).inc(embedded.tokens)
        return answer

    async def embed_again(
        self, account: Account, request: EmbeddingsRequest, told: StoredResponse
    ) -> Embeddings:
        """Return the vectors of a request that was billed before, as it was billed then.

        Raises:
            ModelNotFound: The model embeds here no more.
            Unavailable: The serving plane does not answer.
        """
        embedded = await self._embedded(self._wanted(request), account.context)
        answer = await asyncio.to_thread(_answer, embedded, request)
        usage = Embeddings.model_validate_json(told.body).usage
        return answer.model_copy(update={"usage": usage})

    def _wanted(self, request: EmbeddingsRequest) -> EmbedRequest:
        if self._monitor.embedding_model is None:
            raise Unavailable("The serving plane has not said yet which model embeds.")
        if request.model != self._monitor.embedding_model:
            raise no_model(request.model)
        texts = tuple(request.input)
        return EmbedRequest(texts=texts, max_tokens=_MOST_TOKENS, truncate=request.truncate)

    async def _embedded(self, wanted: EmbedRequest, context: TenantContext) -> EmbedResponse:
        try:
            return await self._serving.embed(wanted, context, current_trace_id())
        except PlatformError as error:
            if error.status == 422:
                error.extensions.setdefault("param", "input")
            raise

    async def _settled(
        self, context: TenantContext, request_id: UUID, answer: Embeddings, effect: Effect
    ) -> Embeddings:
        async with self._database.tenant(context.tenant_id) as connection:
            tokens = answer.usage.total_tokens
            cost = await repository.settle(connection, context, request_id, tokens)
            if cost is None:
                raise Unavailable("The request took too long.")
            usage = answer.usage.model_copy(update={"cost_usd": money(cost)})
            priced = answer.model_copy(update={"usage": usage})
            # a repeat makes the vectors again: they are megabytes, and the quota is locked here
            await effect.record(connection, 200, priced.model_copy(update={"data": []}))
        return priced

    async def _release(self, context: TenantContext, request_id: UUID) -> None:
        with contextlib.suppress(Unavailable):  # the sweeper does
            async with self._database.platform() as connection:
                await repository.release(connection, context, request_id)

    async def sweep(self) -> None:
        """Give back what requests reserved that nobody carries on."""
        while True:
            async with self._database.platform() as connection:
                if not await repository.sweep(connection):
                    return


def _most_tokens(text: str) -> int:
    return min(_MOST_TOKENS, _TOKENS_A_CHARACTER * len(text) + _SPECIAL_TOKENS)


def _answer(embedded: EmbedResponse, request: EmbeddingsRequest) -> Embeddings:
    """Return the vectors as they were asked for, the price to be added.

    Raises:
        InvalidInput: They have other dimensions.
    """
    dimensions = len(b64decode(embedded.vectors[0])) // 4
    if request.dimensions not in (None, dimensions):
        raise InvalidInput(
            f"The model's vectors have {dimensions} dimensions, no others.",
            extensions={"param": "dimensions"},
        )
    is_base64 = request.encoding_format == "base64"
    tokens = embedded.tokens
    return Embeddings(
        data=[
            Embedding(index=index, embedding=vector if is_base64 else _numbers(vector))
            for index, vector in enumerate(embedded.vectors)
        ],
        model=embedded.model,
        usage=EmbeddingsUsage(
            prompt_tokens=tokens, total_tokens=tokens, cost_usd=money(Decimal(0))
        ),
    )


def _numbers(vector: str) -> list[float]:
    numbers = array("f", b64decode(vector))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()
