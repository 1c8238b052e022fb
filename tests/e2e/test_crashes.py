"""kill -9 in the middle of the work: afterwards the state is right, within three minutes."""

import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import RunningPlatform
from tests.e2e.person import Person, until

pytestmark = pytest.mark.e2e

_SOON_S = 180
_BLANK = bytes(b" \t\n\r"[byte % 4] for byte in range(256))
_FACTS = "The {n}th lighthouse of the coast is {n} metres tall and was built in the year {year}."


def kill(platform: RunningPlatform, name: str) -> None:
    """Kill a part and wait until the platform is well again."""
    pid = next(part.pid for part in platform.state.parts if part.name == name)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_back(platform, name, pid), seconds=90, what=f"the return of {name}")


def is_back(platform: RunningPlatform, name: str, killed: int) -> bool:
    part = next(part for part in platform.state.parts if part.name == name)
    if part.pid == killed or part.condition != "ready":
        return False
    try:
        health = httpx.get(f"{platform.base_url}/health", timeout=10).json()
    except httpx.HTTPError:
        return False
    return bool(health["status"] == "ok")


@pytest.fixture
def person(platform: RunningPlatform) -> Iterator[Person]:
    person = Person(platform.base_url)
    yield person
    person.http.close()


def lighthouses(count: int) -> list[bytes]:
    return ["\n\n".join([_FACTS.format(n=n, year=1800 + n)] * 200).encode() for n in range(count)]


def ask_until_the_end(person: Person, stop: threading.Event) -> list[str]:
    """Ask in new conversations, whatever happens; return those that were answered."""
    conversations = []
    headers = dict(person.http.headers)
    with httpx.Client(base_url=person.http.base_url, headers=headers, timeout=30) as http:
        while not stop.is_set():
            try:
                answer = http.post("/chat", json={"message": "How tall is the 3rd lighthouse?"})
            except httpx.HTTPError:
                time.sleep(0.2)
                continue
            assert answer.status_code in (200, 429, 503), answer.text
            if answer.status_code == 200:
                conversations.append(answer.json()["conversation_id"])
            else:
                time.sleep(0.2)
    return conversations


@pytest.mark.parametrize("name", ["gateway", "serving", "postgres"])
def test_answers_are_billed_exactly_when_a_part_is_killed(
    platform: RunningPlatform, person: Person, name: str
) -> None:
    person.finished(person.upload("lighthouse.txt", lighthouses(4)[3][:2000])[0])
    stop = threading.Event()
    with ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(ask_until_the_end, person, stop) for _ in range(6)]
        time.sleep(2)
        kill(platform, name)
        stop.set()
    answered = [conversation for future in asking for conversation in future.result()]
    assert answered
    until(person.has_nothing_reserved, seconds=_SOON_S, what="the end of reservations")
    totals = person.get("/billing/usage")["totals"]
    assert totals["messages"] >= len(answered), "every answer that arrived is billed"
    assert totals["messages"] == stored_answers(person), "and nothing else is"
    for conversation in answered:
        messages = person.get(f"/conversations/{conversation}/messages")["items"]
        assert [message["role"] for message in messages] == ["user", "assistant"]

    def can_go_on() -> bool:
        path = f"/conversations/{answered[0]}/messages"
        again = person.http.post(path, json={"message": "How tall is the 3rd lighthouse?"})
        assert again.status_code in (200, 429), again.text
        return again.status_code == 200

    until(can_go_on, seconds=60, what="the end of the rate limit")


def stored_answers(person: Person) -> int:
    """Return how many answers the person's conversations hold."""
    count, query = 0, {"limit": 200}
    while True:
        page = person.get("/conversations", **query)
        for conversation in page["items"]:
            messages = person.get(f"/conversations/{conversation['id']}/messages")["items"]
            count += sum(message["role"] == "assistant" for message in messages)
        if page["next_cursor"] is None:
            return count
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("name", ["gateway", "postgres"])
def test_uploads_leave_neither_a_file_without_a_row_nor_a_row_without_a_file(
    platform: RunningPlatform, person: Person, name: str
) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(4) as threads:
        uploads = [threads.submit(upload_until_the_end, person, stop) for _ in range(4)]
        time.sleep(1)
        kill(platform, name)
        stop.set()
    accepted = {document for future in uploads for document in future.result()}
    assert accepted
    folder = platform.home / "objects" / person.tenant_id / "documents"
    until(lambda: files_of(folder) == rows_of(person), seconds=_SOON_S, what="the sweep of files")
    assert accepted <= rows_of(person)


def upload_until_the_end(person: Person, stop: threading.Event) -> list[str]:
    """Upload one file after the other, whatever happens; return the documents accepted."""
    accepted = []
    headers = dict(person.http.headers)
    while not stop.is_set():
        content = secrets.token_bytes(2_000).translate(_BLANK)  # no text: no work afterwards
        try:
            with httpx.Client(base_url=person.http.base_url, headers=headers, timeout=30) as http:
                answer = http.post("/documents", files={"file": ("a.txt", content)})
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        assert answer.status_code in (202, 429, 503), answer.text
        if answer.status_code == 202:
            accepted.append(answer.json()["document"]["id"])
            stop.wait(0.1)
    return accepted


def files_of(folder: Path) -> set[str]:
    """Documents that have their original file."""
    return {path.parents[1].name for path in folder.rglob("original")}


def rows_of(person: Person) -> set[str]:
    ids: set[str] = set()
    query: dict[str, object] = {"limit": 200}
    while True:
        page = person.get("/documents", **query)
        ids |= {document["id"] for document in page["items"]}
        if page["next_cursor"] is None:
            return ids
        query["cursor"] = page["next_cursor"]


@pytest.mark.parametrize("name", ["dagster-code", "dagster-daemon", "postgres"])
def test_every_document_ends_ready_when_a_part_is_killed_while_it_is_processed(
    platform: RunningPlatform, person: Person, name: str
) -> None:
    ids = [person.upload(f"{n}.txt", text)[0] for n, text in enumerate(lighthouses(8))]

    def is_under_way() -> bool:
        states = {each["status"] for each in person.get("/documents")["items"]}
        return bool(states & {"parsing", "embedding"})

    until(is_under_way, seconds=_SOON_S, what="the start of processing")
    kill(platform, name)
    for document_id in ids:
        document = person.finished(document_id, seconds=_SOON_S)
        assert document["status"] == "ready", document["error"]
    query = {"query": "height of the 5th lighthouse", "top_k": 50, "document_ids": ids}
    passages = person.http.post("/search", json=query).json()["passages"]
    places = [(each["document_id"], each["start"]) for each in passages]
    assert len(places) == len(set(places)), "no chunk is there twice"
    # what says the same is shown once, so one passage of each; the drill counts all chunks
    assert {document_id for document_id, _ in places} == set(ids)
