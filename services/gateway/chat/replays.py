"""Answers that were settled before, told again: from the ledger and the stored message."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from itertools import count

import asyncpg
from pydantic import BaseModel

from planes.shared.domain import ChatMessage, ChatMode, FinishReason
from planes.shared.wire import CallPiece, CitationOut, FunctionCall, Meta, TextSpan, encode_event
from services.gateway.billing.prices import usage_of
from services.gateway.chat.schemas import AnswerMessage, ChatAnswer
from services.gateway.idempotency.models import AnswerPlace

FIRST_ID = 1_000_000_000  # no answer sends so many events


def settled_answer(place: AnswerPlace, bill: asyncpg.Record, message: ChatMessage) -> ChatAnswer:
    """Return an answer as it was when it was settled.

    Args:
        place: Which answer.
        bill: Its ledger row.
        message: Its message.
    """
    return ChatAnswer(
        id=place.answer_id,
        conversation_id=place.conversation_id,
        message=AnswerMessage(
            id=message.id, content=message.content, created_at=message.created_at
        ),
        citations=[CitationOut.model_validate(citation) for citation in message.citations],
        grounded=bool(message.grounded),
        unsupported=[TextSpan.model_validate(span) for span in message.unsupported],
        finish_reason=FinishReason(message.finish_reason or FinishReason.CANCELLED),
        model=bill["model"],
        mode=ChatMode(bill["mode"]),
        tool_calls=[FunctionCall.model_validate(call) for call in message.tool_calls],
        usage=usage_of(bill["prompt_tokens"], bill["completion_tokens"], bill["cost_usd"]),
    )


def events_of(answer: ChatAnswer, after: int = 0) -> Iterator[bytes]:
    """Yield the events of an answer that is known as a whole, after the one with the id `after`.

    Its text is one `delta`. The ids begin with `FIRST_ID`, above those that the answer's own events
    had: a client that goes on from one of them goes on in this telling.
    """
    meta = Meta(
        id=answer.id,
        conversation_id=answer.conversation_id,
        model=answer.model,
        mode=answer.mode,
    )
    told: list[tuple[str, BaseModel | dict[str, object]]] = [
        ("meta", meta),
        ("delta", {"text": answer.message.content}),
        *(("tool_call", piece) for piece in _pieces(answer.tool_calls)),
        *(("citation", citation) for citation in answer.citations),
        ("usage", answer.usage),
        ("done", answer.without_content()),
    ]
    for event_id, (name, data) in zip(count(FIRST_ID), told, strict=False):
        if event_id > after:
            yield encode_event(name, data, event_id=event_id)


async def one_by_one(events: Iterable[bytes]) -> AsyncGenerator[bytes]:
    """Yield events as those of an answer under way come."""
    for event in events:
        yield event


def _pieces(calls: Sequence[FunctionCall]) -> Iterator[CallPiece]:
    """Yield each call as one piece."""
    for index, call in enumerate(calls):
        yield CallPiece(index=index, id=call.id, name=call.name, arguments=call.arguments)
