"""Answering a question: reserve, ask the serving plane, meter. Knows no web framework."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from planes.shared.clients.serving import ServingClient
from planes.shared.domain import ChatMode, TenantContext, new_id
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.wire import AnswerRequest, ChatTurn, ClientTools, FunctionRound, Scope
from services.gateway.admin.health import ServingMonitor
from services.gateway.admin.metrics import GatewayMetrics
from services.gateway.auth.models import Account
from services.gateway.billing.prices import Prices
from services.gateway.chat import booking, repository
from services.gateway.chat.answers import Accounting, Answer
from services.gateway.chat.booking import Intent, Reservation, Settlement
from services.gateway.chat.group_commit import AnswerBooks
from services.gateway.chat.guard import StreamGuard
from services.gateway.chat.history import (
    LEAST_SUMMED_UP,
    ChatHistory,
    Exchange,
    Place,
    Remembered,
    Summary,
)
from services.gateway.chat.metering import AnswerLedger
from services.gateway.chat.schemas import ChatAnswer, Question
from services.gateway.chat.stream_buffer import StreamBuffer, stream_key
from services.gateway.chat.stream_writer import StreamBounds, StreamWriter
from services.gateway.chat.titles import title_of
from services.gateway.idempotency.models import AnswerPlace
from services.gateway.idempotency.service import Effect
from services.gateway.tracing import current_trace_id

_SHUTDOWN_S = 10.0
_WATCHED_AFTER_S = 0.05


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """Bounds of every answer, from the settings; `grace_s` is how long it outlives its client."""

    max_prompt_tokens: int
    default_max_tokens: int
    history_messages: int
    max_answers: int
    grace_s: float


@dataclass(frozen=True, slots=True)
class ChatParts:
    """What an answer needs."""

    database: Database
    serving: ServingClient
    monitor: ServingMonitor
    history: ChatHistory
    prices: Prices
    metrics: GatewayMetrics
    guard: StreamGuard
    buffer: StreamBuffer


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and where it is asked.

    Attributes:
        question: What is asked.
        conversation_id: Where; None starts a conversation.
        title: Of the new conversation; made of the question if None.
        effect: Told where the answer will be, so that a repeat of the request finds it.
        history: What was said before; None is what the conversation holds.
        wishes: What the caller's application asks of the answer.
        client_tools: What the model may call and the caller's program runs.
        rounds: What was called for this question so far.
        is_listed: Whether the conversation stands in its user's list from now on.
        is_resumable: Whether the client may come back for the answer.
        replaces: The question is this one, and the answer takes the place of its present one.
    """

    question: Question
    conversation_id: UUID | None = None
    title: str | None = None
    effect: Effect = field(default_factory=Effect)
    history: tuple[ChatTurn, ...] | None = None
    wishes: str = ""
    client_tools: ClientTools | None = None
    rounds: tuple[FunctionRound, ...] = ()
    is_listed: bool = True
    is_resumable: bool = True
    replaces: Exchange | None = None


class ChatService:
    """Starts answers and keeps them until they are settled."""

    def __init__(self, parts: ChatParts, limits: ChatLimits) -> None:
        """Store the parts."""
        self._parts = parts
        self._limits = limits
        self._books = AnswerBooks(parts.database)
        self._running: dict[asyncio.Task[None], tuple[Answer, TenantContext]] = {}
        self._starting = 0
        self._bounds = StreamBounds()

    async def _begin(self, account: Account, asked: Asked, *, is_stream: bool) -> Answer:
        """Reserve the worst case and begin to answer, in a new conversation if none is named.

        Raises:
            NotFound: The conversation is not the caller's.
            Conflict: It has an answer under way.
            QuotaExceeded: Before any work, so that the client gets a status code.
            NoLanguageModel: Open chat without a language model.
            Unavailable: The database does not answer, or too many answers are under way.
        """
        if len(self._running) + self._starting >= self._limits.max_answers:
            raise Unavailable("Too many answers are under way.", retry_after_s=1)
        self._starting += 1
        try:
            return await self._start(account, asked, is_stream=is_stream)
        finally:
            self._starting -= 1

    async def _start(self, account: Account, asked: Asked, *, is_stream: bool) -> Answer:
        if asked.question.wanted_mode == ChatMode.OPEN:
            self._parts.monitor.require_language_model()
        if asked.client_tools is not None or asked.rounds:
            self._parts.monitor.require_tools(asked.client_tools)
        context = account.context
        intent = self._intent(asked)
        reservation = await self._reserve(context, intent, asked)
        ledger = AnswerLedger(
            self._parts.database,
            self._books,
            context,
            intent.answer_id,
            partial(self._note, asked, intent, reservation),
        )
        try:
            remembered = await self._remembered(context, asked, intent.conversation_id, reservation)
        except BaseException:
            await asyncio.shield(ledger.release(undo=True))
            raise
        request = _request(asked, intent, reservation, remembered)
        accounting = Accounting(ledger, self._parts.prices, self._parts.metrics)
        is_resumable = asked.is_resumable and (is_stream or asked.effect.is_keyed)
        writer = self._writer(context, intent.answer_id) if is_resumable else None
        answer = Answer(
            request,
            accounting,
            writer,
            is_stream=is_stream,
            has_partial_history=remembered.is_partial,
        )
        task = answer.start(self._parts.serving, context, current_trace_id())
        self._keep(answer, task, context)
        self._parts.guard.watch(answer, account)
        return answer

    def _writer(self, context: TenantContext, answer_id: UUID) -> StreamWriter | None:
        """Return what keeps an answer's events; None where nobody may come back."""
        if not self._limits.grace_s:
            return None
        key = stream_key(context, answer_id)
        grace_s = self._limits.grace_s
        return StreamWriter(self._parts.buffer, key, self._bounds, grace_s=grace_s)

    async def _reserve(self, context: TenantContext, intent: Intent, asked: Asked) -> Reservation:
        """Reserve with those who wait, or in one transaction with what else must hold."""
        if not asked.effect.is_keyed and asked.replaces is None:
            return await self._books.reserve(context, intent)
        async with self._parts.database.tenant(context.tenant_id) as connection:
            reservation = await booking.reserve(connection, context, intent)
            if asked.replaces is not None:
                seq = asked.replaces.question.seq
                await repository.regenerate(connection, context, intent.answer_id, seq)
                reservation = replace(reservation, question_seq=seq)
            place = AnswerPlace(
                intent.answer_id,
                intent.conversation_id,
                intent.message_id,
                reservation.question_seq + 1,
            )
            await asked.effect.record_answer(connection, place)
            return reservation

    async def whole(
        self,
        account: Account,
        asked: Asked,
        client_left: Callable[[], Awaitable[object]] | None = None,
    ) -> ChatAnswer:
        """Answer and wait for the end; a failure takes the question back.

        A client that may repeat its request has the grace to do so after it has left.

        Args:
            account: Who asks.
            asked: What, and where.
            client_left: Returns when nobody waits for the answer any more.

        Raises:
            NotFound: The conversation is not the caller's.
            Conflict: It has an answer under way.
            QuotaExceeded: Before any work.
            NoLanguageModel: Open chat without a language model.
            PlatformError: What went wrong on the way.
        """
        answer = await self._begin(account, asked, is_stream=False)
        watching = Watch(client_left, answer.hang_up) if client_left is not None else None
        try:
            await answer.ended()
        finally:
            if watching is not None:
                watching.end()
            answer.hang_up()
        if answer.whole is None:
            raise answer.problem or Unavailable("The answer was stopped.")
        return answer.whole

    async def stream(self, account: Account, asked: Asked) -> Answer:
        """Answer, and return the answer when it has begun; its `events` are to be read.

        The caller says `hang_up` when nobody reads it any more.

        Raises:
            PlatformError: As `whole`, as long as there was no first event.
        """
        answer = await self._begin(account, asked, is_stream=True)
        await answer.begun()
        return answer

    def end_answers(self, problem: PlatformError) -> None:
        """End every answer under way with `problem`, billed for what was produced."""
        for answer, _ in self._running.values():
            answer.abort(problem)

    def stop_answer(self, answer_id: UUID, context: TenantContext | None = None) -> None:
        """Stop an answer where it runs in this process; with a context, only if it is theirs."""
        for answer, whose in self._running.values():
            if answer.request.answer_id == answer_id and context in {None, whose}:
                answer.stop()

    async def close(self) -> None:
        """Stop every answer and wait until all are settled, at most ten seconds."""
        for answer, _ in self._running.values():
            answer.stop()
        if self._running:
            await asyncio.wait(self._running, timeout=_SHUTDOWN_S)

    def _intent(self, asked: Asked) -> Intent:
        question, is_new = asked.question, asked.conversation_id is None
        return Intent(
            answer_id=new_id(),
            conversation_id=asked.conversation_id or new_id(),
            title=(asked.title or title_of(question.message)) if is_new else None,
            mode=question.wanted_mode or (ChatMode.RAG if is_new else None),
            document_ids=question.document_ids,
            question_id=new_id(),
            question=question.message,
            message_id=_message_id(asked.replaces),
            model=self._parts.monitor.model,
            max_prompt_tokens=self._limits.max_prompt_tokens,
            max_tokens=question.max_tokens or self._limits.default_max_tokens,
            is_listed=asked.is_listed,
        )

    async def _remembered(
        self, context: TenantContext, asked: Asked, conversation_id: UUID, reserved: Reservation
    ) -> Remembered:
        """Return what was said before; a summary of it is for language models alone."""
        limit, seq = self._limits.history_messages, reserved.question_seq
        if asked.history is not None:
            return Remembered(asked.history[-limit:] if limit else ())
        summary = None
        if self._parts.monitor.has_language_model and limit >= LEAST_SUMMED_UP:
            summary = Summary(reserved.summary, reserved.summary_seq)
        if asked.replaces is not None:
            self._parts.history.recent.forget(conversation_id)
        return await self._parts.history.before(
            context, conversation_id, Place(seq, reserved.last_answer), limit=limit, summary=summary
        )

    def _note(
        self, asked: Asked, intent: Intent, reserved: Reservation, settlement: Settlement
    ) -> None:
        """Know a settled answer in the conversation, for the next question there."""
        recent = self._parts.history.recent
        if asked.replaces is not None or not asked.is_listed:
            recent.forget(intent.conversation_id)
        else:
            recent.add(
                intent.conversation_id,
                seq=reserved.question_seq,
                question=intent.question,
                answer=settlement.payload["content"],
                answer_id=intent.message_id,
            )

    def _keep(self, answer: Answer, task: asyncio.Task[None], context: TenantContext) -> None:
        self._running[task] = answer, context
        self._parts.metrics.open_answers.inc()
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        answer, _ = self._running.pop(task)
        self._parts.guard.leave(answer)
        self._parts.metrics.open_answers.dec()


class Watch:
    """Looks whether a client has left, from a moment after it asked.

    Most answers have ended before: they get no task for it.
    """

    def __init__(self, left: Callable[[], Awaitable[object]], tell: Callable[[], None]) -> None:
        """Begin; `tell` is called once `left` has returned."""
        self._left = left
        self._tell = tell
        self._task: asyncio.Future[object] | None = None
        self._timer = asyncio.get_running_loop().call_later(_WATCHED_AFTER_S, self._begin)

    def end(self) -> None:
        """Look no more."""
        self._timer.cancel()
        if self._task is not None:
            self._task.cancel()

    def _begin(self) -> None:
        self._task = asyncio.ensure_future(self._left())
        self._task.add_done_callback(lambda _: self._tell())


def _message_id(replaces: Exchange | None) -> UUID:
    """Return the id of an answer: above that of the one which it replaces, whatever clocks say."""
    message_id = new_id()
    if replaces is None or replaces.answer is None:
        return message_id
    return max(message_id, UUID(int=replaces.answer.id.int + 1))


def _request(
    asked: Asked, intent: Intent, reservation: Reservation, remembered: Remembered
) -> AnswerRequest:
    question = asked.question
    return AnswerRequest(
        answer_id=intent.answer_id,
        message_id=intent.message_id,
        conversation_id=intent.conversation_id,
        message=question.message,
        history=remembered.turns,
        summary=remembered.summary,
        summary_seq=remembered.summary_seq,
        mode=reservation.mode,
        scope=Scope(
            generation=reservation.generation,
            hidden_versions=reservation.hidden_versions,
            document_ids=reservation.document_ids,
            corpus_version=reservation.corpus_version,
        ),
        top_k=question.top_k,
        max_prompt_tokens=intent.max_prompt_tokens,
        max_tokens=intent.max_tokens,
        thinking=question.thinking,
        wishes=asked.wishes,
        fresh=asked.replaces is not None,
        client_tools=asked.client_tools,
        rounds=asked.rounds,
    )
