"""kill -9 in the middle of the work: afterwards the state is right, within three minutes."""

import os
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
    while not stop.is_set():
        try:
            with httpx.Client(base_url=person.http.base_url, headers=headers, timeout=30) as http:
                answer = http.post("/chat", json={"message": "How tall is the 3rd lighthouse?"})
        except httpx.HTTPError:
            time.sleep(0.2)
            continue
        assert answer.status_code in (200, 429, 503), answer.text
        if answer.status_code == 200:
            conversations.append(answer.json()["conversation_id"])
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
    for conversation in answered:
        messages = person.get(f"/conversations/{conversation}/messages")["items"]
        assert [message["role"] for message in messages] == ["user", "assistant"]

    def can_go_on() -> bool:
        path = f"/conversations/{answered[0]}/messages"
        again = person.http.post(path, json={"message": "How tall is the 3rd lighthouse?"})
        assert again.status_code in (200, 429), again.text
        return again.status_code == 200

    until(can_go_on, seconds=60, what="the end of the rate limit")


def test_an_upload_whose_gateway_is_killed_leaves_no_file(
    platform: RunningPlatform, person: Person
) -> None:
    def slowly() -> Iterator[bytes]:
        yield (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n'
            b"Content-Type: text/plain\r\n\r\n"
        )
        for _ in range(100):
            yield b"a line of text\n" * 4000
            time.sleep(0.1)

    def upload() -> None:
        headers = {**person.http.headers, "content-type": "multipart/form-data; boundary=x"}
        with pytest.raises(httpx.HTTPError), httpx.Client(timeout=30) as http:
            http.post(f"{platform.base_url}/documents", content=slowly(), headers=headers)

    kept = person.upload("kept.txt", b"A document that was accepted before.")[0]
    with ThreadPoolExecutor(3) as threads:
        uploads = [threads.submit(upload) for _ in range(3)]
        time.sleep(2)
        kill(platform, "gateway")
        for each in uploads:
            each.result()
    folder = platform.home / "objects" / person.tenant_id / "documents"
    until(lambda: documents_in(folder) == {kept}, seconds=_SOON_S, what="the sweep of files")
    assert [each["id"] for each in person.get("/documents")["items"]] == [kept]


def documents_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["dagster-code", "dagster-daemon", "postgres"])
def test_every_document_ends_ready_when_a_part_is_killed_while_it_is_processed(
    platform: RunningPlatform, person: Person, name: str
) -> None:
    ids = [person.upload(f"{n}.txt", text)[0] for n, text in enumerate(lighthouses(8))]

    def is_under_way() -> bool:
        states = {each["status"] for each in person.get("/documents")["items"]}
        return bool(states & {"parsing", "embedding"})

    until(is_under_way, seconds=60, what="the start of processing")
    kill(platform, name)
    for document_id in ids:
        document = person.finished(document_id, seconds=_SOON_S)
        assert document["status"] == "ready", document["error"]
    query = {"query": "height of the 5th lighthouse", "top_k": 50, "document_ids": ids}
    passages = person.http.post("/search", json=query).json()["passages"]
    places = [(each["document_id"], each["start"]) for each in passages]
    assert len(places) == len(set(places)), "no chunk is there twice"
    chunks = sum(each["chunk_count"] for each in person.get("/documents")["items"])
    assert len(passages) == min(50, chunks)
