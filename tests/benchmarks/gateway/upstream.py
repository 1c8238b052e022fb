"""A serving plane that only answers: `python -m tests.benchmarks.gateway.upstream PORT`.

It speaks the wire over one hand-written protocol, so that it costs little beside what it is asked
by. As the plane does, it sums a conversation up where more than ten messages are in no summary yet:
all but the last four. `max_tokens` of a question says how many `delta` events its answer has; more
than one are sent one by one, `PACE_S` apart, the first with the time at which it is sent;
`HELD_DELTAS` of them `HOLD_S` apart. To `/chat/completions` it says the same in OpenAI's
shapes, for other gateways that are measured beside ours.
"""

import asyncio
import re
import sys
import time
from typing import ClassVar
from uuid import UUID

import httptools
import orjson
import uvloop

from planes.shared.domain import ChatMode, FinishReason
from planes.shared.wire import (
    WIRE_VERSION,
    Done,
    GeneratorStatus,
    Meta,
    ServingHealth,
    Usage,
    encode_event,
)

MODEL = "bench-model"
PACE_S = 0.01
HELD_DELTAS, HOLD_S = 2, 50.0  # the gateway waits 60 for the next event
SENT_AT = re.compile(rb"sent at (\d{20}) ns")
_WORD = " seven words of an answer follow here"
_SENT_AT = b" sent at %020d ns     "  # as long
_DELTAS = re.compile(rb'"max_tokens":\s*(\d+)')
_LAST_SEQ = re.compile(rb'.*"seq":(\d+)', re.DOTALL)
_SUMMARY_SEQ = re.compile(rb'"summary_seq":(\d+)')
_NO_SUMMARY = b'"summary":null,"summary_seq":0'
_SUMMARY = b'"summary":"It was about rules.","summary_seq":%d'
_MOST_UNTOLD, _KEPT_UNTOLD = 10, 4
_STREAMED = re.compile(rb'"stream":\s*true')
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    b"cache-control: no-store\r\ntransfer-encoding: chunked\r\n\r\n"
)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _events(deltas: int) -> list[bytes]:
    """Return the events of an answer."""
    nobody = UUID(int=0)
    meta = Meta(id=nobody, conversation_id=nobody, model=MODEL, mode=ChatMode.OPEN)
    usage = Usage(prompt_tokens=40, completion_tokens=7 * deltas)
    done = Done(
        content=_WORD * deltas,
        citations=(),
        grounded=False,
        finish_reason=FinishReason.STOP,
        model=MODEL,
        usage=usage,
    )
    bodies = [("meta", meta), *[("delta", {"text": _WORD})] * deltas, ("usage", usage)]
    events = [
        encode_event(name, body, event_id=number)  # type: ignore[arg-type]
        for number, (name, body) in enumerate(bodies, start=1)
    ]
    return [*events, encode_event("done", done, event_id=len(events) + 1)]


def _summed_up(done: bytes, asked: bytes) -> bytes:
    """Return the chunk of a `done` event, with a summary where a question's history needs one."""
    last, told = _LAST_SEQ.match(asked), _SUMMARY_SEQ.search(asked)
    if not last or not told or int(last[1]) - int(told[1]) <= _MOST_UNTOLD:
        return done
    event = done[done.index(b"\r\n") + 2 : -2]
    return _chunk(event.replace(_NO_SUMMARY, _SUMMARY % (int(last[1]) - _KEPT_UNTOLD)))


def _json(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _completion(deltas: int) -> bytes:
    message = {"role": "assistant", "content": _WORD * deltas}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    tokens = {"prompt_tokens": 40, "completion_tokens": 7 * deltas, "total_tokens": 40 + 7 * deltas}
    head = {"id": "chatcmpl-bench", "object": "chat.completion", "created": 0, "model": MODEL}
    return _json(orjson.dumps({**head, "choices": [choice], "usage": tokens}))


def _completion_events(deltas: int) -> list[bytes]:
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    parts: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    parts += [({"content": _WORD}, None)] * deltas + [({}, "stop")]
    bodies = (
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in parts
    )
    return [*(b"data: %s\n\n" % orjson.dumps(body) for body in bodies), b"data: [DONE]\n\n"]


def _health() -> bytes:
    health = ServingHealth(
        wire=WIRE_VERSION,
        status="ok",
        generator=GeneratorStatus(kind="openai", model=MODEL, reason="a benchmark"),
        embedding_model="bench-embedder",
        parts={"generator": "ok", "embedder": "ok", "database": "ok"},
    )
    return _json(health.model_dump_json().encode())


class _Upstream(asyncio.Protocol):
    """One connection, kept alive."""

    _answers: ClassVar[dict[tuple[bool, int], list[bytes]]] = {}
    _health = _health()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._url = self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        if self._url.endswith(b"/health"):
            self._transport.write(self._health)  # type: ignore[attr-defined]
            return
        found = _DELTAS.search(body)
        deltas = int(found[1]) if found else 1
        is_completion = self._url.endswith(b"/chat/completions")
        if is_completion and not _STREAMED.search(body):
            self._send(_completion(deltas))
            return
        if (is_completion, deltas) not in self._answers:
            events = _completion_events(deltas) if is_completion else _events(deltas)
            self._answers[is_completion, deltas] = [_chunk(event) for event in events]
        chunks = self._answers[is_completion, deltas]
        if not is_completion:
            chunks = [*chunks[:-1], _summed_up(chunks[-1], body)]
        if deltas == 1:
            self._send(_HEAD + b"".join(chunks) + b"0\r\n\r\n")
        else:
            self._send(_HEAD + chunks[0])
            self._later(chunks, 1, HOLD_S if deltas == HELD_DELTAS else PACE_S)

    def _later(self, chunks: list[bytes], number: int, pace_s: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(pace_s, self._go_on, chunks, number, pace_s)

    def _go_on(self, chunks: list[bytes], number: int, pace_s: float) -> None:
        if number == 1 and _WORD.encode() in chunks[number]:
            sent_at = _SENT_AT % time.monotonic_ns()
            self._send(chunks[number].replace(_WORD.encode(), sent_at))
            self._later(chunks, number + 1, pace_s)
        elif number + 1 < len(chunks):
            self._send(chunks[number])
            self._later(chunks, number + 1, pace_s)
        else:
            self._send(chunks[number] + b"0\r\n\r\n")

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)  # type: ignore[attr-defined]


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
