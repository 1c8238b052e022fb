"""What an answer has produced so far, and its settlement."""

import asyncio
import contextlib
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

from planes.shared.clients.serving import Frame
from planes.shared.domain import FinishReason, TenantContext
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.wire import Done, FunctionCall, TextSpan, Usage, encode_event
from services.gateway.chat import repository
from services.gateway.chat.booking import Settlement
from services.gateway.chat.group_commit import AnswerBooks
from services.gateway.chat.repository import Produced

_MAX_SUMMARY_CHARS = 8000  # of the column
_SETTLE_TRIES = 4
_PERHAPS_UNSTORABLE = (b"\\u0000", b"\\ud", b"\\uD")


class Meter:
    """Counts what passes by; events are decoded only when somebody asks."""

    def __init__(self) -> None:
        """Start at nothing, with the price of any model until it is known which one answers."""
        self.model = "*"
        self._usage = Usage(prompt_tokens=0, completion_tokens=0)
        self._deltas: list[bytes] = []
        self._citations: list[bytes] = []

    def keep(self, frame: Frame) -> None:
        """Remember an event that passes through as it is."""
        if frame.event == "delta":
            self._deltas.append(frame.data)
        elif frame.event == "citation":
            self._citations.append(frame.data)

    def count(self, usage: Usage) -> bool:
        """Remember the latest token counts; False when they are what they were."""
        is_new = usage != self._usage
        self._usage = usage
        return is_new

    def produced(self) -> Produced:
        """Return tokens and text so far.

        A delta may carry `completion_tokens`, which is newer than the last `usage` event.
        """
        deltas = [orjson.loads(delta) for delta in self._deltas]
        counted = deltas[-1].get("completion_tokens", 0) if deltas else 0
        return Produced(
            prompt_tokens=self._usage.prompt_tokens,
            completion_tokens=max(self._usage.completion_tokens, counted),
            content=storable("".join(delta["text"] for delta in deltas)),
            model=self.model,
        )

    def settlement(self) -> Settlement:
        """Return what an answer comes to that was broken off now."""
        produced = self.produced()
        payload = stored_answer(
            content=produced.content,
            citations=[orjson.loads(citation) for citation in self._citations],
            grounded=False,
            finish_reason=FinishReason.CANCELLED,
        )
        tokens = (produced.prompt_tokens, produced.completion_tokens)
        return Settlement(produced.model, *tokens, payload)


def stored_answer(
    *,
    content: str,
    citations: list[Any],
    grounded: bool,
    finish_reason: FinishReason,
    unsupported: Sequence[TextSpan] = (),
) -> dict[str, Any]:
    """Return an answer as the chat log keeps it; model, mode and usage are added on settlement."""
    return {
        "content": storable(content),
        "citations": citations,
        "grounded": grounded,
        "unsupported": [span.model_dump() for span in unsupported],
        "finish_reason": finish_reason,
        "created_at": datetime.now(UTC).isoformat(),
    }


def stored_whole(done: Done) -> dict[str, Any]:
    """Return a finished answer likewise, with the calls that it asks for."""
    payload = stored_answer(
        content=done.content,
        citations=[citation.model_dump(mode="json") for citation in done.citations],
        grounded=done.grounded,
        finish_reason=done.finish_reason,
        unsupported=done.unsupported,
    )
    if done.tool_calls:
        payload["tool_calls"] = [_storable_call(call) for call in done.tool_calls]
    return payload


def _storable_call(call: FunctionCall) -> dict[str, str]:
    return {name: storable(text) for name, text in call.model_dump().items()}


def storable(text: str) -> str:
    """Return a model's text without what no database stores: NUL and lone surrogates."""
    return text.replace("\x00", "").encode("utf-8", "ignore").decode("utf-8")


def storable_summary(text: str) -> str:
    """Return a model's summary likewise, no longer than its column."""
    return storable(text)[:_MAX_SUMMARY_CHARS]


def storable_frame(frame: Frame) -> Frame:
    """Return a `delta` with the text that will be stored; other events as they are."""
    if frame.event != "delta" or not any(each in frame.data for each in _PERHAPS_UNSTORABLE):
        return frame
    delta = json.loads(frame.data)  # which reads lone surrogates
    delta["text"] = storable(delta["text"])
    raw = encode_event("delta", delta, event_id=frame.id)
    return Frame(frame.id, "delta", orjson.dumps(delta), raw)


class AnswerLedger:
    """Checkpoints and settlement of one answer, with the retries that money deserves."""

    def __init__(
        self,
        database: Database,
        books: AnswerBooks,
        context: TenantContext,
        answer_id: UUID,
        on_settled: Callable[[Settlement], None] = lambda _: None,
    ) -> None:
        """Store which reservation this is about, and who is told what it came to."""
        self._on_settled = on_settled
        self._database = database
        self._books = books
        self._context = context
        self._answer_id = answer_id

    async def checkpoint(self, produced: Produced) -> bool:
        """Note how far the answer has come; False when its reservation was swept.

        A database that is down is tried again later.
        """
        with contextlib.suppress(Unavailable):
            async with self._database.platform() as connection:
                return await repository.checkpoint(
                    connection, self._context, self._answer_id, produced
                )
        return True

    async def settle(self, settlement: Settlement) -> Decimal:
        """Bill the tokens, store the answer, and return the cost.

        Raises:
            Unavailable: The database does not answer, or the reservation was swept meanwhile; then
                the sweeper bills the last checkpoint.
        """
        for attempt in range(_SETTLE_TRIES):
            try:
                cost = await self._books.settle(self._context, self._answer_id, settlement)
            except Unavailable:
                if attempt == _SETTLE_TRIES - 1:
                    raise
                await asyncio.sleep(0.25 * 2**attempt)
                continue
            if cost is not None:
                self._on_settled(settlement)
                return cost
            break
        raise Unavailable("The answer was closed before it could be stored.")

    async def release(self, *, undo: bool) -> None:
        """Give the reservation back; where the database is down, the sweeper does."""
        with contextlib.suppress(Unavailable):
            async with self._database.platform() as connection:
                await repository.release(connection, self._context, self._answer_id, undo=undo)
