"""The gateway's client of the serving plane; every wait has a deadline."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from pydantic import BaseModel, ValidationError
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder
from pyreqwest.response import Response

from planes.shared.deadlines import answer_within
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


@dataclass(frozen=True, slots=True)
class Frame:
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
    """Speaks `planes.shared.wire` over one pool of connections."""

    def __init__(self, url: str, tokens: ServingTokens, deadlines: Deadlines) -> None:
        """Store where the plane is; `open` makes the pool."""
        self._url = url.rstrip("/")
        self._tokens = tokens
        self._deadlines = deadlines
        self._client: Client | None = None

    def open(self) -> None:
        """Make the pool of connections."""
        self._client = ClientBuilder().connect_timeout(timedelta(seconds=1)).build()

    async def close(self) -> None:
        """Close the pool."""
        if self._client is not None:
            await self._client.close()

    @asynccontextmanager
    async def answer(
        self, request: AnswerRequest, context: TenantContext, trace_id: str
    ) -> AsyncIterator[AsyncIterator[Frame]]:
        """Open an answer's stream of events; leaving the context hangs up.

        Raises:
            Unavailable: No headers in time, or the stream stalls or breaks.
            PlatformError: The plane refused the request; status and detail are the plane's.
        """
        builder = self._request("/v1/answer", request, context, trace_id)
        # without a limit of 0 the client waits for 64 KiB before it shows the headers
        stream = builder.streamed_read_buffer_limit(0).build_streamed()
        try:
            async with answer_within(self._deadlines.headers_s):
                response = await stream.__aenter__()
        except (PyreqwestError, TimeoutError) as error:
            raise Unavailable(_NO_ANSWER) from error
        try:
            if response.status != 200:
                raise await self._refusal(response)
            yield self._frames(response)
        finally:
            await stream.__aexit__(None, None, None)

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
            raise Unavailable("The client of the serving plane is not open.")
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
        if response.status == 401:  # ours to mend; the client's own identity is good
            return Unavailable(_NOT_OURS)
        try:
            async with asyncio.timeout(self._deadlines.headers_s):
                body = bytes(await response.bytes())
            return remote_problem(Problem.model_validate_json(body))
        except (PyreqwestError, TimeoutError, ValidationError):
            return Unavailable(_NO_ANSWER)

    async def _frames(self, response: Response) -> AsyncIterator[Frame]:
        """Split the stream into events; the first token has a longer deadline than the rest.

        A model that thinks before may take minutes: then each step has the time of an event.
        """
        buffer = b""
        now = asyncio.get_running_loop().time
        deadline = now() + self._deadlines.first_token_s
        has_begun = False
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    block = await response.body_reader.read_chunk()
            except (PyreqwestError, TimeoutError) as error:
                raise Unavailable("The serving plane broke off the answer.") from error
            if block is None:
                return
            *events, buffer = (buffer + bytes(block)).split(b"\n\n")
            for frame in filter(None, map(_parse, events)):  # comments prolong nothing
                has_begun = has_begun or frame.event in {"delta", "tool_call"}
                yield frame
                if has_begun:
                    deadline = now() + self._deadlines.idle_s
                elif frame.event != "meta":
                    deadline = max(deadline, now() + self._deadlines.idle_s)


def _parse(raw: bytes) -> Frame | None:
    """Return the event of one block of lines, or None for a comment (heartbeat)."""
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
