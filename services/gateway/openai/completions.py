"""Answers in the shapes of OpenAI's chat completions: whole, or as chunks of a stream."""

from collections.abc import AsyncGenerator, AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from planes.shared.domain import FinishReason
from planes.shared.wire import FunctionCall
from services.gateway.chat.reading import HEARTBEAT
from services.gateway.chat.schemas import ChatAnswer
from services.gateway.openai.errors import error_of
from services.gateway.openai.schemas import (
    Choice,
    Completion,
    CompletionCall,
    CompletionFunction,
    CompletionMessage,
    CompletionUsage,
)

_END = b"data: [DONE]\n\n"


def completion_of(answer: ChatAnswer) -> Completion:
    """Return a whole answer as OpenAI's API has it."""
    message = CompletionMessage(
        content=answer.message.content or (None if answer.tool_calls else ""),
        tool_calls=[_call(call) for call in answer.tool_calls] or None,
        citations=answer.citations,
        grounded=answer.grounded,
        message_id=answer.message.id,
    )
    return Completion(
        id=_id(answer.id),
        created=int(answer.message.created_at.timestamp()),
        model=answer.model,
        choices=[Choice(message=message, finish_reason=_finish_reason(answer.finish_reason))],
        usage=CompletionUsage(**answer.usage.model_dump()),
        conversation_id=answer.conversation_id,
    )


async def chunks_of(events: AsyncIterator[bytes], *, with_usage: bool) -> AsyncGenerator[bytes]:
    """Yield an answer's events as chunks, the citations in the last one, and `[DONE]`.

    Comments in silences stay: clients skip them.

    An answer that fails ends with an error instead, as OpenAI's own streams do.
    """
    chunks = _Chunks(with_usage=with_usage)
    async for group in events:
        for frame in group.split(b"\n\n")[:-1]:
            if frame + b"\n\n" == HEARTBEAT:
                yield HEARTBEAT
                continue
            name, data = _event(frame)
            for chunk in chunks.of(name, data):
                yield chunk


class _Chunks:
    """The chunks of one stream, which all repeat what its first event said."""

    def __init__(self, *, with_usage: bool) -> None:
        self._with_usage = with_usage
        self._head: dict[str, object] = {}

    def of(self, event: str, data: dict[str, Any]) -> list[bytes]:
        """Return what an event becomes; steps and running figures have no counterpart."""
        match event:
            case "meta":
                self._head = {
                    "id": _id(UUID(data["id"])),
                    "object": "chat.completion.chunk",
                    "created": int(datetime.now(UTC).timestamp()),
                    "model": data["model"],
                    "conversation_id": data["conversation_id"],
                }
                return [self._chunk({"role": "assistant", "content": ""})]
            case "delta":
                return [self._chunk({"content": data["text"]})]
            case "tool_call":
                return [self._chunk({"tool_calls": [_call_piece(data)]})]
            case "done":
                return self._last(data)
            case "error":
                return [_data(error_of(data).model_dump())]
        return []

    def _last(self, done: dict[str, Any]) -> list[bytes]:
        beside = {
            "citations": done["citations"],
            "grounded": done["grounded"],
            "message_id": done["message"]["id"],
        }
        chunks = [self._chunk(beside, _finish_reason(FinishReason(done["finish_reason"])))]
        if self._with_usage:
            chunks.append(_data({**self._head, "choices": [], "usage": done["usage"]}))
        return [*chunks, _END]

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._with_usage else {}
        return _data({**self._head, "choices": [choice], **usage})


def _event(frame: bytes) -> tuple[str, dict[str, Any]]:
    """Return name and data of a server-sent event."""
    name, data = "", b"{}"
    for line in frame.split(b"\n"):
        if line.startswith(b"event: "):
            name = line[7:].decode()
        elif line.startswith(b"data: "):
            data = line[6:]
    return name, orjson.loads(data)


def _call(call: FunctionCall) -> CompletionCall:
    function = CompletionFunction(name=call.name, arguments=call.arguments)
    return CompletionCall(id=call.id, function=function)


def _call_piece(piece: dict[str, Any]) -> dict[str, Any]:
    """Return a piece of a call as a delta has it: the first one of a call names it."""
    index, arguments = piece["index"], piece["arguments"]
    if piece["id"] is None:
        return {"index": index, "function": {"arguments": arguments}}
    function = {"name": piece["name"], "arguments": arguments}
    return {"index": index, "id": piece["id"], "type": "function", "function": function}


def _data(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _id(answer_id: UUID) -> str:
    return f"chatcmpl-{answer_id}"


def _finish_reason(reason: FinishReason) -> Literal["stop", "length", "tool_calls"]:
    """Return OpenAI's word; that an answer declines is said by `grounded` and its text.

    One that was stopped is not whole, as one that was too long.
    """
    if reason is FinishReason.TOOL_CALLS:
        return "tool_calls"
    is_cut = reason in {FinishReason.LENGTH, FinishReason.CANCELLED}
    return "length" if is_cut else "stop"
