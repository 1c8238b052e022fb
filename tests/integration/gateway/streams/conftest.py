"""Two gateways over the same stores, and readers whose connections break where a test says."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import httpx
import pytest

from services.gateway.app import create_app
from tests.integration.gateway.conftest import Gateway, Person, served
from tests.integration.gateway.test_chat import events_of

Event = tuple[int, str, dict[str, Any]]


@pytest.fixture
async def second(gateway: Gateway) -> AsyncIterator[str]:
    """Another gateway on the same stores."""
    async with served(create_app(gateway.app.state.settings)) as url:
        yield url


@pytest.fixture
async def admin(database_urls: dict[str, str]) -> AsyncIterator[asyncpg.Connection]:
    """The owner of the schema."""
    connection = await asyncpg.connect(database_urls["admin"])
    yield connection
    await connection.close()


@dataclass
class Reading:
    """A client that reads one answer over connections that break."""

    person: Person
    events: list[Event] = field(default_factory=list)
    headers: httpx.Headers = field(default_factory=httpx.Headers)
    status: int = 0
    problem: dict[str, Any] = field(default_factory=dict)

    @property
    def answer_id(self) -> str:
        """Which answer; the first event says it."""
        return str(self.events[0][2]["id"])

    @property
    def conversation_id(self) -> str:
        """In which conversation it is."""
        return str(self.events[0][2]["conversation_id"])

    @property
    def text(self) -> str:
        """What the client has put together."""
        return "".join(data["text"] for _, name, data in self.events if name == "delta")

    @property
    def last(self) -> str:
        """The name of the last event."""
        return self.events[-1][1]

    @property
    def names(self) -> list[str]:
        """The events by their names."""
        return [name for _, name, _ in self.events]

    async def ask(self, *, deltas: int | None = None, url: str = "", **sent: Any) -> "Reading":
        """Ask, and break the connection after so many deltas; None: read to the end."""
        body = {"message": "How long?", "stream": True, **sent.pop("json", {})}
        path = sent.pop("path", "/chat")
        await self._read("POST", f"{url}{path}", deltas, json=body, **sent)
        return self

    async def resume(
        self, *, deltas: int | None = None, url: str = "", from_start: bool = False
    ) -> "Reading":
        """Go on after the last event that arrived."""
        path = f"{url}/chat/streams/{self.answer_id}"
        headers = {} if from_start else {"last-event-id": str(self.events[-1][0])}
        if from_start:
            self.events = []
        await self._read("GET", path, deltas, headers=headers)
        return self

    async def _read(self, method: str, path: str, deltas: int | None, **sent: Any) -> None:
        seen = 0
        async with self.person.http.stream(method, path, timeout=None, **sent) as response:
            self.status, self.headers = response.status_code, response.headers
            if response.status_code != 200:
                raw = await response.aread()
                self.problem = response.json() if raw else {}
                return
            if deltas == 0:
                return
            async for event in events_of(response):
                self.events.append(event)
                seen += event[1] == "delta"
                if seen == deltas:
                    return
