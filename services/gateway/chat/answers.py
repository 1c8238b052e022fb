"""An answer under way: events pass through, tokens are counted, and it is settled exactly once."""

import asyncio
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
_READER_S = 30.0
_TOLD_AFTER_S = 3.0
_QUEUED_EVENTS = 256
_BROKEN_OFF = "The serving plane broke off the answer. Try again in a moment."
_log = structlog.get_logger(__name__)


class Answer:
    """One answer under way.

    A task of its own reads the serving plane, so that a client that hangs up ends the answer in an
    orderly way: what was produced is billed and kept, whoever is still listening.
    """

    def __init__(
        self,
        request: AnswerRequest,
        ledger: AnswerLedger,
        prices: Prices,
        metrics: GatewayMetrics,
        *,
        is_stream: bool,
    ) -> None:
        """Store the parts; `start` begins.

        Args:
            request: What the plane is asked.
            ledger: Where the answer is billed.
            prices: For the running figure.
            metrics: Where answers are counted.
            is_stream: The client sees events as they come, and so keeps the question of an answer
                that fails after its first event.
        """
        self.request = request
        self.whole: ChatAnswer | None = None
        self.problem: PlatformError | None = None
        self._ledger = ledger
        self._prices = prices
        self._metrics = metrics
        self._is_stream = is_stream
        self._meter = Meter()
        self._last_event_id = 0
        self._is_ending = False
        self._is_stopped = False
        self._reason: PlatformError | None = None
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(_QUEUED_EVENTS)
        self._task: asyncio.Task[None] | None = None
        self._checkpoints: asyncio.Task[None] | None = None

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
        event = await self._next_event()
        if event is None:
            raise self.problem or Unavailable(_BROKEN_OFF)
        return event

    async def events(self) -> AsyncIterator[bytes]:
        """Yield the remaining events, `done` or `error` last."""
        while (event := await self._next_event()) is not None:
            yield event

    async def _next_event(self) -> bytes | None:
        event = await self._events.get()
        self._room.release()
        return event

    def stop(self) -> None:
        """End the answer now: hang up on the plane, bill and keep what was produced."""
        # a task that is cancelled before its first step would never settle
        asyncio.get_running_loop().call_soon(self._cancel)

    def abort(self, problem: PlatformError) -> None:
        """End the answer now, and tell its reader why.

        What was produced is billed and kept, once. A stream ends with an `error` event that carries
        the problem; whoever waits for the whole answer gets it raised. An answer that is being
        settled already ends as it would have.
        """
        self._reason = self._reason or problem
        self.stop()

    def _cancel(self) -> None:
        if self._task is not None and not self._is_ending:
            self._is_stopped = True
            self._task.cancel()

    async def _run(self, serving: ServingClient, context: TenantContext, trace_id: str) -> None:
        self._checkpoints = asyncio.create_task(self._checkpoint())
        try:
            async with serving.answer(self.request, context, trace_id) as frames:
                async for frame in frames:
                    if await self._pass_on(frame):
                        return
            await self._fail(Unavailable(_BROKEN_OFF))
        except asyncio.CancelledError:
            await (self._fail(self._reason) if self._reason else self._end_early())
        except PlatformError as error:
            await self._fail(error)
        except Exception:
            _log.exception("answer failed", answer_id=str(self.request.answer_id))
            await self._fail(PlatformError("The answer failed on our side."))
        finally:
            self._checkpoints.cancel()
            self._events.put_nowait(None)

    async def _pass_on(self, frame: Frame) -> bool:
        """Forward one event, rebuilt where prices are in it; True after the last."""
        if self._is_stopped:  # a frame that arrives together with the cancellation can hide it
            raise asyncio.CancelledError
        self._last_event_id = frame.id
        match frame.event:
            case "usage":
                usage = Usage.model_validate_json(frame.data)
                if self._meter.count(usage):  # the plane tells the last one again
                    tokens = (usage.prompt_tokens, usage.completion_tokens)
                    priced = self._prices.usage(self._meter.model, *tokens)
                    await self._put(self._encoded("usage", priced))
            case "done":
                await self._finish(Done.model_validate_json(frame.data))
                return True
            case "error":
                problem = Problem.model_validate_json(frame.data)
                raise remote_problem(problem.code, problem.title, problem.status, problem.detail)
            case "meta":
                self._meter.model = Meta.model_validate_json(frame.data).model
                await self._put(frame.raw)
            case _:
                self._meter.keep(frame)
                await self._put(frame.raw)
        return False

    async def _finish(self, done: Done) -> None:
        """Settle a whole answer, then tell the client."""
        self._begin_to_end()
        payload = stored_answer(
            content=done.content,
            citations=[citation.model_dump(mode="json") for citation in done.citations],
            grounded=done.grounded,
            finish_reason=done.finish_reason,
            unsupported=done.unsupported,
        )
        tokens = (done.usage.prompt_tokens, done.usage.completion_tokens)
        cost = await self._ledger.settle(Settlement(done.model, *tokens, payload))
        self._metrics.count_answer(done.finish_reason, done.model, tokens)
        self._metrics.count_lookups(done.caches)
        self.whole = ChatAnswer(
            id=self.request.answer_id,
            conversation_id=self.request.conversation_id,
            message=AnswerMessage(
                id=self.request.message_id,
                content=payload["content"],
                created_at=datetime.fromisoformat(payload["created_at"]),
            ),
            citations=list(done.citations),
            grounded=done.grounded,
            unsupported=list(done.unsupported),
            finish_reason=done.finish_reason,
            model=done.model,
            mode=self.request.mode,
            usage=usage_of(*tokens, cost),
        )
        self._events.put_nowait(self._encoded("done", self.whole.without_content()))

    async def _end_early(self) -> None:
        """Bill and keep what was produced before somebody stopped the answer."""
        self._begin_to_end()
        await self._settle_partly(undo=False)

    async def _fail(self, error: PlatformError) -> None:
        """Bill what was produced; where nothing was, the question has cost nothing."""
        self._begin_to_end()
        self.problem = error
        is_kept = self._is_stream and self._last_event_id > 0
        settling = asyncio.create_task(self._settle_partly(undo=not is_kept))
        # The reader learns it after the settlement, but is not kept waiting by a stalled database.
        await asyncio.wait({settling}, timeout=_TOLD_AFTER_S)
        if self._last_event_id:
            self._last_event_id += 1
            self._events.put_nowait(self._encoded("error", problem_document(error)))
        self._events.put_nowait(None)
        await settling

    def _begin_to_end(self) -> None:
        """From here on nobody stops the answer, and it is noted no more."""
        self._is_ending = True
        if self._checkpoints is not None:
            self._checkpoints.cancel()

    async def _settle_partly(self, *, undo: bool) -> None:
        """Bill and keep what was produced, or give the reservation back where nothing was.

        What cannot be settled now is left to the sweeper.
        """
        try:
            produced = self._meter.produced()
            if produced.completion_tokens == 0:
                await self._ledger.release(undo=undo)
                return
            tokens = (produced.prompt_tokens, produced.completion_tokens)
            partial = self._meter.partial_payload()
            await self._ledger.settle(Settlement(produced.model, *tokens, partial))
            self._metrics.count_answer(FinishReason.CANCELLED, produced.model, tokens)
        except Exception:
            _log.exception("answer left to the sweeper", answer_id=str(self.request.answer_id))

    async def _checkpoint(self) -> None:
        """Note every two seconds how far the answer is; stop it when it has been swept."""
        while True:
            await asyncio.sleep(_CHECKPOINT_S)
            try:
                is_alive = await self._ledger.checkpoint(self._meter.produced())
            except Exception:
                _log.exception("checkpoint failed", answer_id=str(self.request.answer_id))
                continue
            if not is_alive:
                self.stop()
                return

    def _encoded(self, event: str, data: BaseModel | dict[str, object]) -> bytes:
        return encode_event(event, data, event_id=self._last_event_id)

    async def _put(self, event: bytes) -> None:
        """Hand an event to the client; one that reads nothing for long has hung up.

        Raises:
            asyncio.CancelledError: It has.
        """
        try:
            async with asyncio.timeout(_READER_S):
                await self._room.acquire()
        except TimeoutError:
            raise asyncio.CancelledError from None
        self._events.put_nowait(event)
