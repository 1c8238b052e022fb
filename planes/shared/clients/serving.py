"""The gateway's client of the serving plane; every wait has a deadline."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Self

from pydantic import BaseModel, ValidationError
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from planes.shared.clients.kept_connections import BrokenOff, Connection, KeptConnections
from planes.shared.domain import TenantContext
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.telemetry import traceparent
from planes.shared.wire import (
    WIRE_HEADER,
    WIRE_VERSION,
    AnswerRequest,
    EmbedRequest,
    EmbedResponse,
    Problem,
    SearchRequest,
    SearchResponse,
    ServingHealth,
    ServingTokens,
)

_NOT_OURS = (
    "The serving plane does not take the gateway's tokens: it is another installation's, or "
    "SERVING_TOKEN_SECRET differs."
)
_NO_ANSWER = "The serving plane does not answer. Try again in a moment."
_NOT_OPEN = "The client of the serving plane is not open."
_BROKEN_OFF = "The serving plane broke off the answer."
_MOST_OF_REFUSAL_BYTES = 64 * 1024


class Frame(NamedTuple):
    """One server-sent event as it came, with its id, its name and its undecoded JSON."""

    id: int
    event: str
    data: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long the plane may take, in seconds."""

    headers_s: float
    first_token_s: float
    idle_s: float
    search_s: float = 10.0
    embed_s: float = 50.0
    health_s: float = 2.0


class ServingClient:
    """Speaks `planes.shared.wire`: answers over connections of their own, all else by a library."""

    def __init__(self, url: str, tokens: ServingTokens, deadlines: Deadlines) -> None:
        """Store where the plane is; `open` makes the pool."""
        self._url = url.rstrip("/")
        self._tokens = tokens
        self._deadlines = deadlines
        self._client: Client | None = None
        self._connections: KeptConnections | None = None

    def open(self) -> None:
        """Make the pools of connections."""
        self._connections = KeptConnections(self._url)
        self._client = ClientBuilder().connect_timeout(timedelta(seconds=1)).build()

    async def close(self) -> None:
        """Close the pools."""
        if self._connections is not None:
            self._connections.close()
        if self._client is not None:
            await self._client.close()

    def answer(
        self, request: AnswerRequest, context: TenantContext, trace_id: str
    ) -> "AnswerStream":
        """Return an answer's stream of events, to be entered; leaving it hangs up."""
        head = (
            f"authorization: Bearer {self._tokens.mint(context, trace_id)}\r\n"
            "content-type: application/json\r\n"
            f"traceparent: {traceparent(trace_id)}\r\n"
            f"{WIRE_HEADER}: {WIRE_VERSION}\r\n"
        )
        if self._connections is None:
            raise Unavailable(_NOT_OPEN)
        return AnswerStream(
            self._connections, head, request.model_dump_json().encode(), self._deadlines
        )

    async def search(
        self, request: SearchRequest, context: TenantContext, trace_id: str
    ) -> SearchResponse:
        """Return the best passages.

        Raises:
            Unavailable: No answer in time.
            PlatformError: The plane refused the request.
        """
        asked = self._request("/v1/search", request, context, trace_id)
        body = await self._whole(asked, within_s=self._deadlines.search_s)
        return SearchResponse.model_validate_json(body)

    async def embed(
        self, request: EmbedRequest, context: TenantContext, trace_id: str
    ) -> EmbedResponse:
        """Return the vectors of texts.

        Raises:
            Unavailable: No answer in time.
            PlatformError: The plane refused the request: a text is too long.
        """
        asked = self._request("/v1/embed", request, context, trace_id)
        body = await self._whole(asked, within_s=self._deadlines.embed_s)
        return EmbedResponse.model_validate_json(body)

    async def _whole(self, request: RequestBuilder, *, within_s: float) -> bytes:
        try:
            async with asyncio.timeout(within_s):
                response = await request.build().send()
                if response.status != 200:
                    raise await self._refusal(response)
                return bytes(await response.bytes())
        except (PyreqwestError, TimeoutError) as error:
            raise Unavailable(_NO_ANSWER) from error

    async def health(self) -> ServingHealth:
        """Return the plane's own view of its parts.

        Raises:
            Unavailable: No answer in time, it takes none of our tokens, or it speaks another
                major version of the wire.
        """
        try:
            async with asyncio.timeout(self._deadlines.health_s):
                asked = self._open().get(f"{self._url}/v1/health").header(WIRE_HEADER, WIRE_VERSION)
                response = await asked.bearer_auth(self._tokens.mint_for_health()).build().send()
                body = bytes(await response.bytes())
        except (PyreqwestError, TimeoutError) as error:
            raise Unavailable(_NO_ANSWER) from error
        if response.status == 401:
            raise Unavailable(_NOT_OURS)
        try:
            health = ServingHealth.model_validate_json(body)
        except ValidationError as error:
            raise Unavailable(
                "The serving plane's address is answered by something else."
            ) from error
        if health.wire != WIRE_VERSION:
            raise Unavailable(f"The serving plane speaks wire {health.wire}, not {WIRE_VERSION}.")
        return health

    def _open(self) -> Client:
        if self._client is None:
            raise Unavailable(_NOT_OPEN)
        return self._client

    def _request(
        self, path: str, body: BaseModel, context: TenantContext, trace_id: str
    ) -> RequestBuilder:
        return (
            self._open()
            .post(self._url + path)
            .bearer_auth(self._tokens.mint(context, trace_id))
            .header("content-type", "application/json")
            .header("traceparent", traceparent(trace_id))
            .header(WIRE_HEADER, WIRE_VERSION)
            .body_bytes(body.model_dump_json().encode())
        )

    async def _refusal(self, response: Response) -> PlatformError:
        try:
            async with asyncio.timeout(self._deadlines.headers_s):
                return _refused(response.status, bytes(await response.bytes()))
        except (PyreqwestError, TimeoutError):
            return Unavailable(_NO_ANSWER)


class AnswerStream:
    """An answer's events, in the groups in which they come."""

    def __init__(
        self, connections: KeptConnections, head: str, body: bytes, deadlines: Deadlines
    ) -> None:
        """Store what is asked, and how long it may take."""
        self._connections = connections
        self._head = head
        self._body = body
        self._deadlines = deadlines
        self._connection: Connection | None = None
        self._unread = b""
        self._has_begun = self._is_whole = False
        self._end = 0.0
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        """Ask.

        Raises:
            Unavailable: No headers in time.
            PlatformError: The plane refused the request; status and detail are the plane's.
        """
        try:
            self._connection = await self._connections.post(
                "/v1/answer", self._head, self._body, within_s=self._deadlines.headers_s
            )
        except (BrokenOff, TimeoutError) as error:
            raise Unavailable(_NO_ANSWER) from error
        if self._connection.status != 200:
            try:
                raise await self._refusal(self._connection)
            finally:
                self._connection.leave(is_whole=False)
        self._put_off(self._deadlines.first_token_s)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up, or keep the connection where the answer is whole."""
        if self._connection is not None:
            self._connection.leave(is_whole=self._is_whole)

    async def next(self) -> Sequence[Frame]:
        """Wait for events, and return those that have come together; none after the last.

        The first token has a longer deadline than the rest. A model that thinks before may take
        minutes: then each step has the time of an event.

        Raises:
            Unavailable: The stream stalls or breaks.
        """
        connection = self._connection
        while connection is not None:
            try:
                data = await connection.read()
            except (BrokenOff, TimeoutError) as error:
                raise Unavailable(_BROKEN_OFF) from error
            if not data:
                break
            *events, self._unread = (self._unread + data).split(b"\n\n")
            frames = [frame for frame in map(_parse, events) if frame is not None]
            if frames:  # comments prolong nothing
                self._note(frames)
                return frames
        return ()

    def _note(self, frames: Sequence[Frame]) -> None:
        """Give the next event its time."""
        is_work = False
        for frame in frames:
            match frame.event:
                case "delta" | "tool_call":
                    self._has_begun = True
                case "done" | "error":
                    self._is_whole = True
                case "meta":
                    continue
            is_work = True
        if self._has_begun or is_work:
            self._put_off(self._deadlines.idle_s, is_less=self._has_begun)

    def _put_off(self, seconds: float, *, is_less: bool = True) -> None:
        """Set the deadline; one that is earlier than that of now only where it may be."""
        end = self._loop.time() + seconds
        if self._connection is not None and (is_less or end > self._end):
            self._end = end
            self._connection.put_off(seconds)

    async def _refusal(self, connection: Connection) -> PlatformError:
        body = b""
        connection.put_off(self._deadlines.headers_s)
        try:
            while len(body) < _MOST_OF_REFUSAL_BYTES and (part := await connection.read()):
                body += part
        except (BrokenOff, TimeoutError):
            return Unavailable(_NO_ANSWER)
        return _refused(connection.status, body)


def _refused(status: int, body: bytes) -> PlatformError:
    """Return what the plane has refused a request with."""
    if status == 401:  # ours to mend; the client's own identity is good
        return Unavailable(_NOT_OURS)
    try:
        return remote_problem(Problem.model_validate_json(body))
    except ValidationError:
        return Unavailable(_NO_ANSWER)


def _parse(raw: bytes) -> Frame | None:
    """Return the event of one block of lines, or None for a comment (heartbeat)."""
    head, found, data = raw.partition(b"\ndata: ")
    number_of, found_event, name = head.partition(b"\nevent: ")
    if found and found_event and number_of[:4] == b"id: " and b"\n" not in data:  # as we write it
        return Frame(int(number_of[4:]), name.decode(), data, raw + b"\n\n")
    return _parsed_by_line(raw)


def _parsed_by_line(raw: bytes) -> Frame | None:
    number, event, data = 0, "", b""
    for line in raw.split(b"\n"):
        if line.startswith(b"event: "):
            event = line[7:].decode()
        elif line.startswith(b"data: "):
            data = line[6:]
        elif line.startswith(b"id: "):
            number = int(line[4:])
    return Frame(number, event, data, raw + b"\n\n") if event else None


def remote_problem(problem: Problem) -> PlatformError:
    """Return a problem of the plane as an exception with the same code, title and status."""
    may_pass = problem.status == 503 and not problem.is_permanent
    error = PlatformError(problem.detail, retry_after_s=2 if may_pass else None)
    error.code, error.title, error.status = problem.code, problem.title, problem.status
    return error
