"""People who use the gateway all the time, and what they saw."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

PASSWORD = "seven herons near a quiet lake"
_PATIENCE_S = 90.0
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it began, how long its head and its whole took, what came."""

    kind: str
    started: float
    head_s: float
    whole_s: float
    status: int
    flaw: str = ""

    @property
    def ended(self) -> float:
        """When the last byte was there."""
        return self.started + self.whole_s


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An answer that arrived whole: it has to stand in its conversation for good."""

    conversation_id: str
    message_id: str
    content: str


@dataclass
class Visitor:
    """Somebody who is signed in, and what was acknowledged to them.

    Attributes:
        http: Their connections.
        email: Their address.
        tenant_id: Their tenant.
        refresh_token: The one to use next.
        answered: Conversations of questions that were not streamed.
        answers: All answers, streamed or not.
        documents: Names of uploaded files, of which each holds its own number, by their ids.
    """

    http: httpx.AsyncClient
    email: str
    tenant_id: str
    refresh_token: str
    answered: list[str] = field(default_factory=list)
    answers: list[Acknowledged] = field(default_factory=list)
    documents: dict[str, str] = field(default_factory=dict)


async def register(base_url: str) -> Visitor:
    """Sign up somebody new."""
    http = httpx.AsyncClient(base_url=base_url, timeout=_PATIENCE_S, trust_env=False)
    email = f"{uuid4().hex}@example.com"
    answer = await http.post("/auth/register", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 201, answer.text
    body = answer.json()
    http.headers["authorization"] = f"Bearer {body['access_token']}"
    return Visitor(http, email, body["tenant"]["id"], body["refresh_token"])


class Traffic:
    """One visitor for each kind of request, who repeats it without end."""

    def __init__(self, visitors: dict[str, Visitor], *, pause_s: float = 0.1) -> None:
        """Store who does what, with which pause; the keys are names of `KINDS`."""
        self.samples: list[Sample] = []
        self.under_way_since: dict[str, float] = {}
        self._pause_s = pause_s
        self._visitors = visitors
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def kinds(self) -> set[str]:
        """What is done."""
        return set(self._visitors)

    def start(self) -> None:
        """Begin."""
        self._tasks = [
            asyncio.create_task(self._repeat(kind, visitor))
            for kind, visitor in self._visitors.items()
        ]

    async def stop(self) -> None:
        """End, once every request has its answer."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            try:
                await task
            except asyncio.CancelledError:
                continue

    def since(self, moment: float) -> list[Sample]:
        """Return what was answered after a moment."""
        return [sample for sample in self.samples if sample.ended >= moment]

    def last(self, kind: str) -> Sample | None:
        """Return the latest answer of a kind."""
        return next((each for each in reversed(self.samples) if each.kind == kind), None)

    async def _repeat(self, kind: str, visitor: Visitor) -> None:
        while True:
            self.under_way_since[kind] = time.monotonic()
            request = asyncio.create_task(observe(kind, visitor))
            try:
                sample = await asyncio.shield(request)
            except asyncio.CancelledError:
                self.samples.append(await request)  # nobody hangs up
                raise
            self.samples.append(sample)
            del self.under_way_since[kind]
            await asyncio.sleep(self._pause_s)


async def observe(kind: str, visitor: Visitor) -> Sample:
    """Make one request and return what came of it."""
    started = time.monotonic()
    head_s = 0.0
    try:
        async with KINDS[kind](visitor) as response:
            head_s = time.monotonic() - started
            body = await response.aread()
    except httpx.HTTPError as error:
        taken = time.monotonic() - started
        return Sample(kind, started, head_s or taken, taken, 0, f"{type(error).__name__}: {error}")
    flaw = await _AFTER.get(kind, _nothing)(visitor, response, body) or _flaw(kind, response, body)
    return Sample(kind, started, head_s, time.monotonic() - started, response.status_code, flaw)


def _flaw(kind: str, response: httpx.Response, body: bytes) -> str:
    """Say what is wrong with an answer, whatever happens behind it."""
    status, headers = response.status_code, response.headers
    if status < 300:
        return ""
    if status >= 500 and status != 503:
        return f"{status}: {body[:200]!r}"
    if kind == "ready":
        return ""  # its 503 is a document of its own
    if headers.get("content-type") != PROBLEM:
        return f"{status} is no problem document: {headers.get('content-type')}"
    if status in (429, 503) and not headers.get("retry-after", "").isdigit():
        return f"{status} without Retry-After"
    return ""


async def _nothing(_visitor: Visitor, _response: httpx.Response, _body: bytes) -> str:
    return ""


async def _after_refresh(visitor: Visitor, response: httpx.Response, _: bytes) -> str:
    if response.status_code == 200:
        visitor.refresh_token = response.json()["refresh_token"]
    elif response.status_code == 401:
        # an answer that was lost rotated the token, and ten seconds have passed: sign in again
        answer = await _login(visitor).__aenter__()
        await answer.aread()
        if answer.status_code == 200:
            visitor.refresh_token = answer.json()["refresh_token"]
    return ""


async def _after_chat(visitor: Visitor, response: httpx.Response, _: bytes) -> str:
    if response.status_code == 200:
        answer = response.json()
        visitor.answered.append(answer["conversation_id"])
        message = answer["message"]
        visitor.answers.append(
            Acknowledged(answer["conversation_id"], message["id"], message["content"])
        )
    return ""


async def _after_stream(visitor: Visitor, response: httpx.Response, body: bytes) -> str:
    """A stream that has begun ends with `done` or `error`, whatever happened."""
    if response.status_code != 200:
        return ""
    events = [_event(block) for block in body.strip().split(b"\n\n")]
    name, data = events[-1]
    if name == "done":
        text = "".join(each["text"] for kind, each in events if kind == "delta")
        visitor.answers.append(Acknowledged(data["conversation_id"], data["message"]["id"], text))
    return "" if name in ("done", "error") else f"the stream ends with {name} {data}"


def _event(block: bytes) -> tuple[str, dict[str, Any]]:
    """Return the name and the data of a server-sent event; "" and {} for a comment."""
    fields = dict(line.partition(": ")[::2] for line in block.decode().splitlines())
    return fields.get("event", ""), json.loads(fields.get("data", "{}"))


async def _after_upload(visitor: Visitor, response: httpx.Response, _: bytes) -> str:
    if response.status_code == 202:
        document = response.json()["document"]
        visitor.documents[document["id"]] = document["name"]
    return ""


Request = Callable[[Visitor], "httpx._client.AbstractAsyncContextManager[httpx.Response]"]
After = Callable[[Visitor, httpx.Response, bytes], Awaitable[str]]


def _login(visitor: Visitor):  # type: ignore[no-untyped-def]
    body = {"email": visitor.email, "password": PASSWORD}
    return visitor.http.stream("POST", "/auth/login", json=body)


def _refresh(visitor: Visitor):  # type: ignore[no-untyped-def]
    return visitor.http.stream(
        "POST", "/auth/refresh", json={"refresh_token": visitor.refresh_token}
    )


def _upload(visitor: Visitor):  # type: ignore[no-untyped-def]
    number = uuid4()
    file = (f"{number}.txt", f"The tide of {number} was high.".encode())
    return visitor.http.stream("POST", "/documents", files={"file": file})


def _get(path: str) -> Request:
    return lambda visitor: visitor.http.stream("GET", path)


def _chat(*, stream: bool) -> Request:
    def ask(visitor: Visitor):  # type: ignore[no-untyped-def]
        question = f"How high was the tide of {uuid4()}?"  # which no cache has answered
        return visitor.http.stream("POST", "/chat", json={"message": question, "stream": stream})

    return ask


KINDS: dict[str, Request] = {
    "login": _login,
    "refresh": _refresh,
    "me": _get("/auth/me"),
    "documents": _get("/documents"),
    "upload": _upload,
    "chat": _chat(stream=False),
    "stream": _chat(stream=True),
    "usage": _get("/billing/usage"),
    "ready": _get("/health/ready"),
}
_AFTER: dict[str, After] = {
    "refresh": _after_refresh,
    "chat": _after_chat,
    "stream": _after_stream,
    "upload": _after_upload,
}
