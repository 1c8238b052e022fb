"""An answer under way: events pass through, tokens are counted, and it is settled exactly once."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

import structlog
from pydantic import BaseModel

from planes.shared.clients.serving import Frame, ServingClient, remote_problem
from planes.shared.domain import FinishReason, TenantContext
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.wire import AnswerRequest, Done, Meta, Problem, Usage, encode_event
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.billing.prices import Prices, usage_of
from services.gateway.chat.metering import AnswerLedger, Meter, stored_answer
from services.gateway.chat.repository import Settlement
from services.gateway.chat.schemas import AnswerMessage, ChatAnswer
from services.gateway.problems import problem_document

_CHECKPOINT_S = 2.0
_QUEUED_EVENTS = 256
_BROKEN_OFF = "The serving plane broke off the answer. Try again in a moment."
_log = structlog.get_logger(__name__)


class Answer:
    """One answer under way.

    A task of its own reads the serving plane, so that a client that hangs up ends the answer in an
    orderly way: what was produced is billed and kept, whoever is still listening.
    """

    def __init__(
        self, request: AnswerRequest, ledger: AnswerLedger, prices: Prices, metrics: GatewayMetrics
    ) -> None:
        """Store the parts; `start` begins."""
        self.request = request
        self.whole: ChatAnswer | None = None
        self.problem: PlatformError | None = None
        self.keeps_question = False
        self._ledger = ledger
        self._prices = prices
        self._metrics = metrics
        self._meter = Meter()
        self._model = "*"
        self._last_event_id = 0
        self._is_ending = False
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue(_QUEUED_EVENTS)
        self._task: asyncio.Task[None] | None = None

    def start(
        self, serving: ServingClient, context: TenantContext, trace_id: str
    ) -> asyncio.Task[None]:
        """Begin to answer, in a task that the caller keeps."""
        self._task = asyncio.create_task(self._run(serving, context, trace_id))
        return self._task

    async def first_event(self) -> bytes:
        """Wait for the first event.

        Raises:
            PlatformError: There was none, and the question was taken back.
        """
        event = await self._events.get()
        if event is None:
            raise self.problem or Unavailable(_BROKEN_OFF)
        return event

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the remaining events, `done` or `error` last; leaving early stops the answer."""
        try:
            while (event := await self._events.get()) is not None:
                yield event
        finally:
            self.stop()

    def stop(self) -> None:
        """End the answer now: hang up on the plane, bill and keep what was produced."""
        if self._task is not None and not self._is_ending:
            self._task.cancel()

    async def _run(self, serving: ServingClient, context: TenantContext, trace_id: str) -> None:
        checkpoints = asyncio.create_task(self._checkpoint())
        try:
            async with serving.answer(self.request, context, trace_id) as frames:
                async for frame in frames:
                    if await self._pass_on(frame):
                        return
            await self._fail(Unavailable(_BROKEN_OFF))
        except asyncio.CancelledError:
            await self._end_early()
        except PlatformError as error:
            await self._fail(error)
        except Exception:
            _log.exception("answer failed", answer_id=str(self.request.answer_id))
            await self._fail(PlatformError("The answer failed on our side."))
        finally:
            checkpoints.cancel()
            self._close()

    async def _pass_on(self, frame: Frame) -> bool:
        """Forward one event, rebuilt where prices are in it; True after the last."""
        self._last_event_id = frame.id
        match frame.event:
            case "usage":
                usage = Usage.model_validate_json(frame.data)
                self._meter.count(usage)
                priced = self._prices.usage(
                    self._model, usage.prompt_tokens, usage.completion_tokens
                )
                await self._emit("usage", priced)
            case "done":
                await self._finish(Done.model_validate_json(frame.data))
                return True
            case "error":
                problem = Problem.model_validate_json(frame.data)
                raise remote_problem(problem.code, problem.title, problem.status, problem.detail)
            case "meta":
                self._model = Meta.model_validate_json(frame.data).model
                await self._events.put(frame.raw)
            case _:
                self._meter.keep(frame)
                await self._events.put(frame.raw)
        return False

    async def _finish(self, done: Done) -> None:
        """Settle a whole answer, then tell the client."""
        self._is_ending = True
        payload = stored_answer(
            content=done.content,
            citations=[citation.model_dump(mode="json") for citation in done.citations],
            grounded=done.grounded,
            finish_reason=done.finish_reason,
        )
        tokens = (done.usage.prompt_tokens, done.usage.completion_tokens)
        cost = await self._ledger.settle(Settlement(done.model, *tokens, payload))
        self._metrics.count_answer(done.finish_reason, done.model, tokens)
        self.whole = ChatAnswer(
            id=self.request.answer_id,
            conversation_id=self.request.conversation_id,
            message=AnswerMessage(
                id=self.request.message_id,
                content=done.content,
                created_at=datetime.fromisoformat(payload["created_at"]),
            ),
            citations=list(done.citations),
            grounded=done.grounded,
            finish_reason=done.finish_reason,
            model=done.model,
            mode=self.request.mode,
            usage=usage_of(*tokens, cost),
        )
        without_content = self.whole.model_dump(mode="json")
        del without_content["message"]["content"]
        await self._emit("done", without_content)

    async def _end_early(self) -> None:
        """Bill and keep what was produced before somebody stopped the answer."""
        self._is_ending = True
        with contextlib.suppress(Unavailable):
            if not await self._settle_partly():
                await self._ledger.release(undo=False)

    async def _fail(self, error: PlatformError) -> None:
        """Bill what was produced; where nothing was, the question has cost nothing."""
        self._is_ending = True
        self.problem = error
        with contextlib.suppress(Unavailable):
            if not await self._settle_partly():
                await self._ledger.release(undo=not self.keeps_question)
        if self._last_event_id:
            self._last_event_id += 1
            await self._emit("error", problem_document(error))

    async def _settle_partly(self) -> bool:
        produced = self._meter.produced()
        if produced.completion_tokens == 0:
            return False
        tokens = (produced.prompt_tokens, produced.completion_tokens)
        partial = self._meter.partial_payload()
        await self._ledger.settle(Settlement(self._model, *tokens, partial))
        self._metrics.count_answer(FinishReason.CANCELLED, self._model, tokens)
        return True

    async def _checkpoint(self) -> None:
        while True:
            await asyncio.sleep(_CHECKPOINT_S)
            await self._ledger.checkpoint(self._meter.produced())

    async def _emit(self, event: str, data: BaseModel | dict[str, object]) -> None:
        await self._events.put(encode_event(event, data, event_id=self._last_event_id))

    def _close(self) -> None:
        """Tell the listener that there is no more; one that left does not empty its queue."""
        if self._events.full():
            self._events.get_nowait()
        self._events.put_nowait(None)
