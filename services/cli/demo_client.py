"""The platform's public API, as the demonstration uses it: by HTTP alone."""

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
from httpx_sse import connect_sse

_ATTEMPTS = 5


class CallFailed(RuntimeError):
    """The API refused a call; the message is its problem document's."""


@dataclass(frozen=True, slots=True)
class User:
    """Who the demonstration signed up."""

    email: str
    password: str


class DemoClient:
    """One user's calls."""

    def __init__(self, http: httpx.Client) -> None:
        """Store the client, whose base address is the gateway's."""
        self._http = http

    def register(self) -> User:
        """Sign up with a random password, and send its token from now on."""
        user = User(f"demo-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(18))
        body = {"email": user.email, "password": user.password, "tenant_name": "Demonstration"}
        answer = self._call("POST", "/auth/register", json=body)
        self._http.headers["Authorization"] = f"Bearer {answer['access_token']}"
        return user

    def upload(self, name: str, content: bytes) -> str:
        """Upload a file; return its document's id."""
        document = self._call("POST", "/documents", files={"file": (name, content)})["document"]
        return str(document["id"])

    def document(self, document_id: str) -> dict[str, Any]:
        """Return a document's state."""
        return self._call("GET", f"/documents/{document_id}")

    def text(self, document_id: str, version: int) -> str:
        """Return the extracted text that citations point into."""
        path, query = f"/documents/{document_id}/text", {"version": version}
        return self._send("GET", path, params=query).content.decode("utf-8")

    def ask(self, question: str) -> dict[str, Any]:
        """Ask; return the whole answer."""
        return self._call("POST", "/chat", json={"message": question})

    def ask_streaming(self, question: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Ask; yield each event's name and data.

        Raises:
            CallFailed: The answer ended in an error.
        """
        body = {"message": question, "stream": True}
        with connect_sse(self._http, "POST", "/chat", json=body) as source:
            if source.response.is_error:
                source.response.read()
                raise CallFailed(_problem(source.response))
            for event in source.iter_sse():
                data = json.loads(event.data)
                if event.event == "error":
                    raise CallFailed(str(data.get("detail")))
                yield event.event, data

    def usage(self) -> dict[str, Any]:
        """Return what the tenant has used this month."""
        return self._call("GET", "/billing/usage")

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        body: dict[str, Any] = self._send(method, path, **arguments).json()
        return body

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        for attempt in range(_ATTEMPTS):
            response = self._http.request(method, path, **arguments)
            if response.status_code != 429 or attempt == _ATTEMPTS - 1:
                break
            time.sleep(float(response.headers.get("Retry-After", "1")))
        if response.is_error:
            raise CallFailed(f"{method} {path}: {_problem(response)}")
        return response


def _problem(response: httpx.Response) -> str:
    try:
        problem: Mapping[str, object] = response.json()
    except ValueError:
        return f"{response.status_code} {response.text[:200]}"
    return f"{response.status_code} {problem.get('title')}: {problem.get('detail')}"
