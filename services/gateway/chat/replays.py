"""Answers that were settled before, told again: from the ledger and the stored message."""

from collections.abc import Iterator

import asyncpg

from planes.shared.domain import ChatMessage, ChatMode, FinishReason
from planes.shared.wire import CitationOut, Meta, TextSpan, encode_event
from services.gateway.billing.prices import usage_of
from services.gateway.chat.schemas import AnswerMessage, ChatAnswer
from services.gateway.idempotency.models import AnswerPlace


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
        usage=usage_of(bill["prompt_tokens"], bill["completion_tokens"], bill["cost_usd"]),
    )


def events_of(answer: ChatAnswer) -> Iterator[bytes]:
    """Yield the events of an answer that is known as a whole: its text in one `delta`."""
    meta = Meta(
        id=answer.id,
        conversation_id=answer.conversation_id,
        model=answer.model,
        mode=answer.mode,
    )
    yield encode_event("meta", meta, event_id=1)
    yield encode_event("delta", {"text": answer.message.content}, event_id=2)
    event_id = 2
    for citation in answer.citations:
        event_id += 1
        yield encode_event("citation", citation, event_id=event_id)
    yield encode_event("usage", answer.usage, event_id=event_id + 1)
    yield encode_event("done", answer.without_content(), event_id=event_id + 2)
