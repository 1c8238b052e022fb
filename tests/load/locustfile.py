"""What one person does, between thinking: signs in, asks, searches, uploads, reads, looks at usage.

Run by `python -m tests.load`. Everything is the public API. Each answer that arrived whole is kept
in LOAD_FOLDER/answers.jsonl; the time until its first text stands in the report as a request of the
kind `first text`, which is none.

Who has no session calls nothing but the sign-in, as an application would: what was refused once is
one failure, not one of every call that follows.
"""

import json
import os
import secrets
import time
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import gevent
from locust import FastHttpUser, between, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.exception import RescheduleTask

from tests.load.answers import Answer, AnswerFile
from tests.load.people import DOORS, Person, document, read_people

_FOLDER = Path(os.environ["LOAD_FOLDER"])
_THINK_S = float(os.environ["LOAD_THINK_S"])
_FRESH_S = 480  # an access token lives ten minutes
_SIGN_INS = 4  # one after the other, while the platform asks to come back
_MOST_RETRY_S = 10.0

_people: Iterator[Person] = cycle(read_people(_FOLDER / "people.jsonl"))
_answers = AnswerFile(_FOLDER / "answers.jsonl")


class Visitor(FastHttpUser):
    """One of the people, in a tenant of their own."""

    wait_time = between(_THINK_S / 2, _THINK_S * 3 / 2)
    network_timeout = connection_timeout = 60.0

    def on_start(self) -> None:
        """Sign in."""
        self.person = next(_people)
        self.headers = {"x-forwarded-for": self.person.address}
        self.conversation_id: str | None = None
        self.refresh_token = ""  # empty: without a session
        self.signed_in_at = 0.0
        self.sign_in()

    @task(2)
    def sign_in(self) -> None:
        """Begin a session; where the platform says when to come back, come back then.

        Each refusal is a failure of its own.
        """
        body = {"email": self.person.email, "password": self.person.password}
        for _ in range(_SIGN_INS - 1):
            retry_s = self._begin("/auth/login", body)
            if retry_s is None:
                return
            gevent.sleep(min(retry_s, _MOST_RETRY_S))
        self._begin("/auth/login", body)

    @task(2)
    def upload(self) -> None:
        """Add a document."""
        mark = uuid4().hex
        files = {"file": (f"{mark}.txt", document(mark), "text/plain")}
        with self._call("POST", "/documents", files=files) as answer:
            _expect(answer, 202)

    @task(12)
    def search(self) -> None:
        """Look for a passage."""
        with self._call("POST", "/search", json={"query": self._question()}) as answer:
            if _expect(answer, 200) and not answer.json()["passages"]:
                answer.failure("no passage was found")

    @task(14)
    def ask(self) -> None:
        """Ask and wait for the answer."""
        with self._call("POST", "/chat", json=self._chat()) as answer:
            if _expect(answer, 200):
                body = answer.json()
                self._keep(Answer.of(body, body["message"]["content"]))

    @task(14)
    def ask_streaming(self) -> None:
        """Ask and read along."""
        body, name = {**self._chat(), "stream": True}, "/chat, streamed"
        began = time.perf_counter()
        with self._call("POST", "/chat", name=name, json=body, stream=True) as answer:
            if not _expect(answer, 200):
                return
            text, event, data = "", "nothing", {}
            for event, data in _events(answer):
                if event == "delta":
                    text = text or self._first_text(began)
                    text += data["text"]
            answer.request_meta["response_time"] = 1e3 * (time.perf_counter() - began)
            if event == "done":
                self._keep(Answer.of(data, text))
            else:
                answer.failure(f"the stream ends with {event}: {data.get('detail', data)}")

    @task(12)
    def read(self) -> None:
        """List the conversations, and read one again."""
        with self._call("GET", "/conversations?limit=20", name="/conversations") as answer:
            if not _expect(answer, 200) or not (items := answer.json()["items"]):
                return
        path = f"/conversations/{secrets.choice(items)['id']}/messages"
        with self._call("GET", path, name="/conversations/{id}/messages") as answer:
            _expect(answer, 200)

    @task(4)
    def documents(self) -> None:
        """List the documents."""
        with self._call("GET", "/documents") as answer:
            _expect(answer, 200)

    @task(6)
    def usage(self) -> None:
        """Look at what was used."""
        with self._call("GET", "/billing/usage") as answer:
            _expect(answer, 200)

    def _question(self) -> str:
        return f"Which code opens door {self.person.mark}-{secrets.randbelow(DOORS)}?"

    def _chat(self) -> dict[str, Any]:
        """Return a question: half of them, once there is a conversation, go on with it."""
        is_follow_up = self.conversation_id is not None and secrets.randbelow(2) == 0
        place = {"conversation_id": self.conversation_id} if is_follow_up else {}
        return {"message": self._question(), **place}

    def _keep(self, answer: Answer) -> None:
        self.conversation_id = answer.conversation_id
        _answers.append(self.person.tenant_id, answer)

    def _first_text(self, began: float) -> str:
        """Report how long the first text took; return the text so far."""
        self.environment.events.request.fire(
            request_type="first text",
            name="/chat, streamed",
            response_time=1e3 * (time.perf_counter() - began),
            response_length=0,
            exception=None,
            context={},
        )
        return ""

    def _call(
        self, method: str, path: str, *, name: str = "", **request: Any
    ) -> ResponseContextManager:
        """Call as who is signed in, with a token that is still good.

        Raises:
            RescheduleTask: There is no session: the person thinks, and then tries something else.
        """
        self._require_session()
        return self.client.request(
            method, path, name=name or path, headers=self.headers, catch_response=True, **request
        )

    def _require_session(self) -> None:
        """Go on with the session where its token is old; without one sign in.

        Raises:
            RescheduleTask: It did not succeed.
        """
        if self.refresh_token and time.monotonic() - self.signed_in_at > _FRESH_S:
            refresh_token, self.refresh_token = self.refresh_token, ""
            self._begin("/auth/refresh", {"refresh_token": refresh_token})
        if not self.refresh_token:
            self.sign_in()
        if not self.refresh_token:
            raise RescheduleTask

    def _begin(self, path: str, body: dict[str, str]) -> float | None:
        """Begin a session, or go on with it; return after how long to try again, if at all."""
        address = {"x-forwarded-for": self.person.address}
        with self.client.post(path, json=body, headers=address, catch_response=True) as answer:
            if _expect(answer, 200):
                tokens = answer.json()
                self.headers = {**address, "authorization": f"Bearer {tokens['access_token']}"}
                self.refresh_token = tokens["refresh_token"]
                self.signed_in_at = time.monotonic()
            elif answer.status_code == 503 and "retry-after" in answer.headers:
                return float(answer.headers["retry-after"])
        return None


def _expect(answer: ResponseContextManager, status: int) -> bool:
    """Tell whether an answer has this status; mark it as failed where not."""
    if answer.status_code == status:
        return True
    if answer.status_code:  # else no answer came, and locust says why
        answer.failure(f"{answer.status_code}: {_reason(answer)}")
    return False


def _reason(answer: ResponseContextManager) -> str:
    """Return what a problem says, without its `trace_id`: failures are counted by their reasons."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return (answer.text or "")[:200]


def _events(answer: ResponseContextManager) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the server-sent events of a stream as they come."""
    event = ""
    while line := answer.stream.readline(b"\n"):
        name, _, value = line.decode().rstrip("\r\n").partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)
