"""A serving plane that only answers: `python -m tests.benchmarks.gateway.upstream PORT`.

It speaks the wire over one hand-written protocol, so that it costs little beside what it is asked
by. `max_tokens` of a question says how many `delta` events its answer has; more than one are sent
one by one, `PACE_S` apart.
"""

import asyncio
import re
import sys
from typing import ClassVar
from uuid import UUID

import httptools
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
_WORD = " seven words of an answer follow here"
_DELTAS = re.compile(rb'"max_tokens":(\d+)')
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


def _health() -> bytes:
    health = ServingHealth(
        wire=WIRE_VERSION,
        status="ok",
        generator=GeneratorStatus(kind="openai", model=MODEL, reason="a benchmark"),
        embedding_model="bench-embedder",
        parts={"generator": "ok", "embedder": "ok", "database": "ok"},
    )
    body = health.model_dump_json().encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


class _Upstream(asyncio.Protocol):
    """One connection, kept alive."""

    _answers: ClassVar[dict[int, list[bytes]]] = {}
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
        if deltas not in self._answers:
            self._answers[deltas] = [_chunk(event) for event in _events(deltas)]
        chunks = self._answers[deltas]
        if deltas == 1:
            self._send(_HEAD + b"".join(chunks) + b"0\r\n\r\n")
        else:
            self._send(_HEAD + chunks[0])
            self._later(chunks, 1)

    def _later(self, chunks: list[bytes], number: int) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(PACE_S, self._go_on, chunks, number)

    def _go_on(self, chunks: list[bytes], number: int) -> None:
        if number + 1 < len(chunks):
            self._send(chunks[number])
            self._later(chunks, number + 1)
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
