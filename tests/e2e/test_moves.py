"""Index and messages move to other stores and back while somebody asks: every request is served."""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import pytest

from tests.e2e.conftest import EXACT, RunningPlatform
from tests.e2e.person import Person, until

pytestmark = [pytest.mark.e2e, pytest.mark.platforms(EXACT)]
_WARRANTY = (
    "The pump comes with a warranty of thirty-one months from the day of delivery. "
    "Wear parts such as seals and filters are excluded from the warranty."
)
_PAUSE_S = 0.5


@contextmanager
def _asking(person: Person, document_id: str) -> Iterator[list[str]]:
    """Search, ask and look at the history until the end of the block; yield conversations."""
    conversations: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        for number in count():
            if stop.is_set():
                return
            # another question each time, which no cache knows
            body = {"query": f"months of warranty of pump number {number}", "top_k": 3}
            found = person.http.post("/search", json=body)
            assert found.status_code == 200, found.text
            assert found.json()["passages"][0]["document_id"] == document_id
            answer = person.ask("How many months is the warranty of the pump?")
            assert "thirty-one months" in answer["message"]["content"]
            person.check(answer["citations"])
            for conversation_id in (*conversations[:1], answer["conversation_id"]):
                history = person.get(f"/conversations/{conversation_id}/messages")["items"]
                assert [message["role"] for message in history] == ["user", "assistant"]
                assert "thirty-one months" in history[1]["content"]
            conversations.append(answer["conversation_id"])
            time.sleep(_PAUSE_S)

    with ThreadPoolExecutor(1) as pool:
        asked: Future[None] = pool.submit(ask)
        try:
            until(lambda: conversations or asked.done(), seconds=60, what="the first answer")
            yield conversations
            before = len(conversations)
            until(
                lambda: len(conversations) > before + 1 or asked.done(),
                seconds=60,
                what="an answer after all",
            )
        finally:
            stop.set()
        asked.result()


@pytest.fixture
def person(platform: RunningPlatform) -> Iterator[Person]:
    person = Person(platform.base_url)
    yield person
    person.http.close()


@pytest.fixture
def document_id(person: Person) -> str:
    document_id, _ = person.upload("pump.txt", _WARRANTY.encode())
    assert person.finished(document_id)["status"] == "ready"
    return document_id


def test_no_request_fails_while_the_index_moves_and_comes_back(
    platform: RunningPlatform, person: Person, document_id: str
) -> None:
    with _asking(person, document_id):
        copied = platform.command("stores", "copy", "--from", "mongo", "--to", "postgres")
        assert "equal" in copied
        number = re.findall(r"stores switch (\d+)", copied)[0]
        assert "stands in postgres" in platform.command("stores", "switch", number)
        later, _ = person.upload("later.txt", b"The gasket of the valve is made of blue rubber.")
        assert person.finished(later)["status"] == "ready"
        assert "stands in mongo again" in platform.command("stores", "rollback")
    found = person.http.post("/search", json={"query": "gasket of the valve"}).json()["passages"]
    assert found[0]["document_id"] == later


def test_no_request_fails_while_messages_move_and_come_back(
    platform: RunningPlatform, person: Person, document_id: str
) -> None:
    with _asking(person, document_id) as conversations:
        assert "equal" in platform.command("stores", "copy-messages", "--to", "postgres")
        assert "read from postgres" in platform.command("stores", "switch-messages")
        answered = len(conversations)
        until(lambda: len(conversations) > answered + 1, seconds=60, what="an answer there")
        assert "read from cql" in platform.command("stores", "switch-messages")
        platform.command("stores", "finish-messages")
    for conversation_id in conversations:
        assert len(person.get(f"/conversations/{conversation_id}/messages")["items"]) == 2
