"""An answer under way: events pass through, tokens are counted, and it is settled exactly once."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError

from planes.shared.clients.serving import Frame, ServingClient, remote_problem
from planes.shared.domain import FinishReason, TenantContext
from planes.shared.errors import PlatformError, RequestTimeout, Unavailable
from planes.shared.wire import AnswerRequest, Done, Meta, Problem, Usage, encode_event
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.billing.prices import Prices, usage_of
from services.gateway.chat.booking import Settlement
from services.gateway.chat.metering import (
    AnswerLedger,
    Meter,
    storable_frame,
    storable_summary,
    stored_whole,
)
from services.gateway.chat.reading import Awaiting, Reader
from services.gateway.chat.schemas import AnswerMessage, ChatAnswer
from services.gateway.chat.stream_buffer import SentEvent
from services.gateway.chat.stream_writer import StreamWriter
from services.gateway.problems import problem_document

_CHECKPOINT_S = 2.0
_TOLD_AFTER_S = 3.0
_BROKEN_OFF = "The serving plane broke off the answer. Try again in a moment."
_NOT_STORED = "The answer ended before it could be stored. Look into the conversation in a minute."
_NOT_READ = "Nothing was read for half a minute. GET /chat/streams/{id} goes on from here."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where an answer is billed, what tokens cost until then, and where answers are counted."""

    ledger: AnswerLedger
    prices: Prices
    metrics: GatewayMetrics


class Answer:
    """One answer under way.

    A task of its own reads the serving plane, so that a client that hangs up ends the answer in an
    orderly way: what was produced is billed and kept, whoever is still listening.
    """

    def __init__(
        self,
        request: AnswerRequest,
        accounting: Accounting,
        writer: StreamWriter | None,
        *,
        is_stream: bool,
        has_partial_history: bool = False,
    ) -> None:
        """Store the parts; `start` begins.

        Args:
            request: What the plane is asked.
            accounting: Where the answer is billed.
            writer: Keeps its events for those who come back; None: it ends with its client.
            is_stream: The client sees events as they come, and so keeps the question of an answer
                that fails after its first event.
            has_partial_history: The chat log was away: the request lacks messages. The answer says
                so, and no summary is made of the others.
        """
        self.request = request
        self.whole: ChatAnswer | None = None
        self.problem: PlatformError | None = None
        self._accounting = accounting
        self._writer = writer
        self._is_stream = is_stream
        self._is_told = is_stream or writer is not None
        self._has_partial_history = has_partial_history
        self._meter = Meter()
        self._reader: Reader | Awaiting = Reader() if is_stream else Awaiting()
        self._last_event_id = 0
        self._is_ending = False
        self._is_stopped = False
        self._reason: PlatformError | None = None
        self._task: asyncio.Task[None] | None = None
        self._first_checkpoint: asyncio.TimerHandle | None = None
        self._checkpoints: asyncio.Task[None] | None = None
        self._return: asyncio.Task[None] | None = None

    def start(
        self, serving: ServingClient, context: TenantContext, trace_id: str
    ) -> asyncio.Task[None]:
        """Begin to answer, in a task that the caller keeps."""
        self._task = asyncio.create_task(self._run(serving, context, trace_id))
        return self._task

    async def begun(self) -> None:
        """Wait for the first event.

        Raises:
            PlatformError: There was none, and the question was taken back.
        """
        assert isinstance(self._reader, Reader)  # noqa: S101 (a stream)
        if not await self._reader.has_begun():
            raise self.problem or Unavailable(_BROKEN_OFF)

    async def ended(self) -> None:
        """Wait for the end of an answer that is no stream; `whole` or `problem` says what it is."""
        assert isinstance(self._reader, Awaiting)  # noqa: S101 (no stream)
        await self._reader.ended()

    def events(self, heartbeat_s: float | None = None) -> AsyncIterator[bytes]:
        """Yield the events, once, those together that came together, `done` or `error` last.

        There are comments in silences of `heartbeat_s`.
        """
        assert isinstance(self._reader, Reader)  # noqa: S101 (a stream)
        return self._reader.events(heartbeat_s)

    async def is_resumable(self) -> bool:
        """Tell whether the events are kept for a client that comes back."""
        return self._writer is not None and await self._writer.has_begun()

    def hang_up(self) -> None:
        """The client has gone: end the answer, at once or when nobody came back in time."""
        self._reader.leave()
        if self._task is None or self._is_ending:
            return
        if self._writer is None:
            self.stop()
        elif self._return is None:
            self._writer.is_read = False
            self._return = asyncio.create_task(self._wait_for_return(self._writer))

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

    async def _wait_for_return(self, writer: StreamWriter) -> None:
        await writer.abandoned()
        self.stop()

    async def _run(self, serving: ServingClient, context: TenantContext, trace_id: str) -> None:
        loop = asyncio.get_running_loop()
        self._first_checkpoint = loop.call_later(_CHECKPOINT_S, self._begin_checkpoints)
        try:
            async with serving.answer(self.request, context, trace_id) as stream:
                while frames := await stream.next():
                    if await self._pass_on(frames):
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
            self._begin_to_end()
            self._reader.end()
            if self._writer is not None:
                await self._writer.close()

    async def _pass_on(self, frames: Sequence[Frame]) -> bool:
        """Forward events that came together, rebuilt where prices are in them.

        Returns True after the last of the answer.
        """
        if self._is_stopped:  # frames that arrive together with the cancellation can hide it
            raise asyncio.CancelledError
        told: list[SentEvent] = []
        try:
            for frame in frames:
                match frame.event:
                    case "done":
                        await self._put(told)
                        told.clear()
                        self._last_event_id = frame.id
                        await self._finish(Done.model_validate_json(frame.data))
                        return True
                    case "error":
                        await self._put(told)
                        told.clear()
                        self._last_event_id = frame.id
                        raise remote_problem(Problem.model_validate_json(frame.data))
                    case "usage":
                        usage = Usage.model_validate_json(frame.data)
                        if self._meter.count(usage):  # the plane tells the last one again
                            told.append(SentEvent(frame.id, self._priced(frame.id, usage)))
                    case "meta":
                        self._meter.model = Meta.model_validate_json(frame.data).model
                        told.append(SentEvent(frame.id, frame.raw))
                    case _:
                        kept = storable_frame(frame)
                        self._meter.keep(kept)
                        told.append(SentEvent(frame.id, kept.raw))
        except ValidationError:
            await self._put(told)  # what came before it
            raise
        await self._put(told)
        self._last_event_id = frames[-1].id
        return False

    def _priced(self, event_id: int, usage: Usage) -> bytes:
        """Return the event `usage` with what it costs; for nobody it is not made."""
        if not self._is_told:
            return b""
        tokens = (usage.prompt_tokens, usage.completion_tokens)
        priced = self._accounting.prices.usage(self._meter.model, *tokens)
        return encode_event("usage", priced, event_id=event_id)

    async def _finish(self, done: Done) -> None:
        """Settle a whole answer, then tell the client."""
        self._begin_to_end()
        tokens = (done.usage.prompt_tokens, done.usage.completion_tokens)
        settlement = Settlement(done.model, *tokens, stored_whole(done))
        if done.summary is not None and not self._has_partial_history:
            settlement = replace(
                settlement, summary=storable_summary(done.summary), summary_seq=done.summary_seq
            )
        cost = await self._accounting.ledger.settle(settlement)
        self._accounting.metrics.count_answer(done.finish_reason, done.model, tokens)
        self._accounting.metrics.count_lookups(done.caches)
        self._tell_whole(settlement, cost)

    async def _end_early(self) -> None:
        """Bill and keep what was produced before somebody stopped the answer."""
        self._begin_to_end()
        settlement = self._meter.settlement()
        settling = asyncio.create_task(self._settle(settlement, undo=False))
        await asyncio.wait({settling}, timeout=_TOLD_AFTER_S)
        cost = settling.result() if settling.done() else None
        if cost is None or not self._last_event_id:
            self.problem = Unavailable(_NOT_STORED)
            self._tell_problem(self.problem)
        else:
            self._last_event_id += 1
            is_billed = settlement.completion_tokens > 0
            self._tell_whole(
                settlement if is_billed else replace(settlement, prompt_tokens=0), cost
            )
        await settling

    async def _fail(self, error: PlatformError) -> None:
        """Bill what was produced; where nothing was, the question has cost nothing."""
        self._begin_to_end()
        self.problem = error
        is_kept = self._is_stream and self._last_event_id > 0
        settlement = self._meter.settlement()
        settling = asyncio.create_task(self._settle(settlement, undo=not is_kept))
        # The reader learns it after the settlement, but is not kept waiting by a stalled database.
        await asyncio.wait({settling}, timeout=_TOLD_AFTER_S)
        self._tell_problem(error)
        await settling

    def _begin_to_end(self) -> None:
        """From here on nobody stops the answer, and it is noted no more."""
        self._is_ending = True
        if self._first_checkpoint is not None:
            self._first_checkpoint.cancel()
        for task in (self._checkpoints, self._return):
            if task is not None:
                task.cancel()

    async def _settle(self, settlement: Settlement, *, undo: bool) -> Decimal | None:
        """Bill and keep what was produced, or give the reservation back where nothing was.

        Returns the cost; None: it could not be settled now, and is left to the sweeper.
        """
        ledger = self._accounting.ledger
        try:
            if settlement.completion_tokens == 0:
                await ledger.release(undo=undo)
                return Decimal(0)
            cost = await ledger.settle(settlement)
        except Exception:
            _log.exception("answer left to the sweeper", answer_id=str(self.request.answer_id))
            return None
        tokens = (settlement.prompt_tokens, settlement.completion_tokens)
        self._accounting.metrics.count_answer(FinishReason.CANCELLED, settlement.model, tokens)
        return cost

    def _begin_checkpoints(self) -> None:
        """Most answers have ended before: they get no task for it."""
        self._checkpoints = asyncio.create_task(self._checkpoint())

    async def _checkpoint(self) -> None:
        """Note every two seconds how far the answer is; end it when it was stopped or swept."""
        while True:
            try:
                is_alive = await self._accounting.ledger.checkpoint(self._meter.produced())
            except Exception:
                _log.exception("checkpoint failed", answer_id=str(self.request.answer_id))
                is_alive = True
            if not is_alive:
                self.stop()
                return
            await asyncio.sleep(_CHECKPOINT_S)

    def _tell_whole(self, settlement: Settlement, cost: Decimal) -> None:
        """End the stream with `done`."""
        payload: dict[str, Any] = settlement.payload
        tokens = (settlement.prompt_tokens, settlement.completion_tokens)
        self.whole = ChatAnswer(
            id=self.request.answer_id,
            conversation_id=self.request.conversation_id,
            message=AnswerMessage(
                id=self.request.message_id,
                content=payload["content"],
                created_at=datetime.fromisoformat(payload["created_at"]),
            ),
            citations=payload["citations"],
            grounded=payload["grounded"],
            unsupported=payload["unsupported"],
            tool_calls=payload.get("tool_calls", []),
            finish_reason=payload["finish_reason"],
            model=settlement.model,
            mode=self.request.mode,
            usage=usage_of(*tokens, cost),
            has_partial_history=self._has_partial_history,
        )
        if self._is_told:
            self._end_with(self._encoded("done", self.whole.without_content()))
        else:
            self._reader.end()

    def _tell_problem(self, error: PlatformError) -> None:
        """End the stream with `error`; where nothing was sent yet, the request fails with it."""
        if self._last_event_id:
            self._last_event_id += 1
            self._end_with(self._encoded("error", problem_document(error)))
        self._reader.end()

    def _end_with(self, event: bytes) -> None:
        if self._writer is not None:
            self._writer.put(SentEvent(self._last_event_id, event, is_last=True))
        self._reader.end(event)

    def _encoded(self, event: str, data: BaseModel | dict[str, object]) -> bytes:
        return encode_event(event, data, event_id=self._last_event_id)

    async def _put(self, events: Sequence[SentEvent]) -> None:
        """Hand events to the client; one that reads nothing for long has hung up."""
        if not events or not self._is_told:
            return
        if self._writer is not None:
            for event in events:
                self._writer.put(event)
        if not isinstance(self._reader, Reader):
            return
        raw = events[0].raw if len(events) == 1 else b"".join([event.raw for event in events])
        self._last_event_id = events[-1].id
        if not await self._reader.put(raw, len(events)):
            # the id is that of the last event that is on its way, so that nothing is lost
            problem = problem_document(RequestTimeout(_NOT_READ))
            self._reader.end(encode_event("error", problem, event_id=events[0].id - 1))
            self.hang_up()
