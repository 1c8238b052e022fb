"""The main job on the real platform, by HTTP alone: register, upload, ask, check, pay, delete.

All of it runs embedded and on given stores; what reads the index, again on an index of its own.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from io import BytesIO

import docx
import httpx
import pytest
from httpx_sse import connect_sse

from tests.e2e.conftest import EMBEDDED, EXACT, PLATFORMS, RunningPlatform
from tests.e2e.person import Person, until

pytestmark = [pytest.mark.e2e, pytest.mark.platforms(EMBEDDED, EXACT)]
on_every_index = pytest.mark.platforms(*PLATFORMS)

HERON = """# Field guide

## The grey heron

The grey heron (Ardea cinerea) is a long-legged wading bird. An adult stands up to 100 cm tall and
weighs between 1.0 and 2.1 kilograms. Its nest is a bulky platform of sticks, used for many years.

## The common kingfisher

The common kingfisher digs a burrow in a river bank. The female lays five to seven glossy white
eggs, and both parents incubate them for nineteen to twenty days.
"""
WARRANTY = (
    "The pump comes with a warranty of thirty-one months from the day of delivery. "
    "Wear parts such as seals and filters are excluded from the warranty."
)
PAGE = """<html><head><title>Ferry times</title></head><body><h1>Ferry times</h1>
<p>The ferry to Norwick island leaves the harbour at 06:45 and at 17:20 every day.</p>
<p>Bicycles travel free of charge on the ferry.</p></body></html>"""


def word_document() -> bytes:
    document = docx.Document()
    document.add_heading("Pump manual", 1)
    document.add_paragraph(WARRANTY)
    table = document.add_table(rows=1, cols=2)
    table.rows[0].cells[0].text = "Nominal flow"
    table.rows[0].cells[1].text = "4200 litres per hour"
    stream = BytesIO()
    document.save(stream)
    return stream.getvalue()


@pytest.fixture(scope="module")
def person(platform: RunningPlatform) -> Iterator[Person]:
    person = Person(platform.base_url)
    yield person
    person.http.close()


@pytest.fixture(scope="module")
def documents(person: Person) -> dict[str, str]:
    """Three documents of three kinds, ready: ids by name."""
    contents = {
        "birds.md": HERON.encode(),
        "pump.docx": word_document(),
        "ferry.html": PAGE.encode(),
    }
    uploaded = {name: person.upload(name, content) for name, content in contents.items()}
    for document_id, job_id in uploaded.values():
        document = person.finished(document_id)
        assert document["status"] == "ready", document["error"]
        assert document["version"] == 1
        assert document["chunk_count"] >= 1
        job = person.get(f"/jobs/{job_id}")
        assert job["status"] == "succeeded"
        assert job["documents"][0]["percent"] == 100
    return {name: document_id for name, (document_id, _) in uploaded.items()}


@on_every_index
def test_an_answer_cites_the_right_place(person: Person, documents: dict[str, str]) -> None:
    answer = person.ask("How many months is the warranty of the pump?")
    assert "thirty-one months" in answer["message"]["content"]
    assert answer["grounded"]
    assert answer["citations"]
    assert answer["citations"][0]["document_id"] == documents["pump.docx"]
    assert answer["citations"][0]["document_name"] == "pump.docx"
    assert answer["citations"][0]["marker"] in answer["message"]["content"]
    person.check(answer["citations"])


@on_every_index
def test_a_question_beyond_the_documents_is_declined(
    person: Person, documents: dict[str, str]
) -> None:
    del documents
    answer = person.ask("Which year did the Treaty of Westphalia end the Thirty Years' War?")
    assert answer["finish_reason"] == "declined"
    assert answer["citations"] == []
    assert not answer["grounded"]


@on_every_index
def test_a_stream_tells_its_steps_and_ends_with_done(
    person: Person, documents: dict[str, str]
) -> None:
    del documents
    body = {"message": "When does the ferry to Norwick leave?", "stream": True}
    with connect_sse(person.http, "POST", "/chat", json=body) as source:
        events = [(event.event, event.id, json.loads(event.data)) for event in source.iter_sse()]
    names = [name for name, _, _ in events]
    assert names[0] == "meta"
    assert names[-1] == "done"
    assert {"step", "delta", "citation", "usage"} <= set(names)
    numbers = [int(number) for _, number, _ in events]
    assert numbers == sorted(set(numbers))
    text = "".join(data["text"] for name, _, data in events if name == "delta")
    assert "06:45" in text
    done = events[-1][2]
    citations = [data for name, _, data in events if name == "citation"]
    assert citations == done["citations"]
    person.check(citations)
    stored = person.get(f"/conversations/{done['conversation_id']}/messages")["items"]
    assert stored[1]["content"] == text
    assert stored[1]["citations"] == citations
    assert stored[1]["usage"] == done["usage"]


@on_every_index
def test_a_follow_up_knows_what_was_asked_before(person: Person, documents: dict[str, str]) -> None:
    del documents
    first = person.ask("Where does the common kingfisher dig its burrow?")
    assert "river bank" in first["message"]["content"]
    path = f"/conversations/{first['conversation_id']}/messages"
    second = person.http.post(path, json={"message": "And how many eggs does it lay?"}).json()
    assert "five to seven" in second["message"]["content"]
    person.check(second["citations"])


@on_every_index
def test_search_returns_passages_with_their_place(
    person: Person, documents: dict[str, str]
) -> None:
    answer = person.http.post("/search", json={"query": "nominal flow of the pump", "top_k": 3})
    passages = answer.json()["passages"]
    assert passages[0]["document_id"] == documents["pump.docx"]
    assert "4200 litres" in passages[0]["text"]
    text = person.http.get(f"/documents/{documents['pump.docx']}/text").content.decode()
    assert text[passages[0]["start"] : passages[0]["end"]] == passages[0]["text"]
    only = {"query": "warranty", "document_ids": [documents["birds.md"]]}
    found = person.http.post("/search", json=only).json()["passages"]
    assert {passage["document_id"] for passage in found} <= {documents["birds.md"]}


def test_usage_is_the_sum_of_the_answers(platform: RunningPlatform) -> None:
    person = Person(platform.base_url)
    document_id, _ = person.upload("pump.txt", WARRANTY.encode())
    person.finished(document_id)
    answers = [person.ask("How long is the warranty?"), person.ask("What is excluded from it?")]
    usage = person.get("/billing/usage", group_by="model")
    assert usage["totals"]["messages"] == len(answers)
    for field in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert usage["totals"][field] == sum(answer["usage"][field] for answer in answers)
    cost = sum(Decimal(answer["usage"]["cost_usd"]) for answer in answers)
    assert Decimal(usage["totals"]["cost_usd"]) == cost > 0
    assert usage["quotas"]["tokens"]["used"] == usage["totals"]["total_tokens"]
    assert [item["model"] for item in usage["items"]] == [answers[0]["model"]]
    assert person.get("/billing/plans")["current"] == "free"
    person.http.close()


@on_every_index
def test_another_tenant_finds_nothing(
    platform: RunningPlatform, person: Person, documents: dict[str, str]
) -> None:
    stranger = Person(platform.base_url)
    assert stranger.get("/documents")["items"] == []
    found = stranger.http.post("/search", json={"query": "warranty of the pump"}).json()
    assert found["passages"] == []
    named = {"query": "warranty of the pump", "document_ids": list(documents.values())}
    assert stranger.http.post("/search", json=named).json()["passages"] == []
    answer = stranger.ask("How many months is the warranty of the pump?")
    assert answer["finish_reason"] == "declined"
    conversation_id = person.ask("How tall is a grey heron?")["conversation_id"]
    assert stranger.http.get(f"/conversations/{conversation_id}").status_code == 404
    stranger.http.close()


@on_every_index
def test_a_deleted_document_is_found_no_more_and_its_receipt_counts(
    platform: RunningPlatform,
) -> None:
    person = Person(platform.base_url)
    document_id, _ = person.upload("pump.txt", WARRANTY.encode())
    assert person.finished(document_id)["status"] == "ready"
    answer = person.ask("How many months is the warranty of the pump?")
    assert answer["citations"]
    assert person.http.delete(f"/documents/{document_id}").status_code == 202
    found = person.http.post("/search", json={"query": "warranty of the pump"}).json()
    assert found["passages"] == [], "a deletion acts at once"
    assert person.ask("How many months is the warranty?")["finish_reason"] == "declined"

    def is_complete() -> bool:
        return person.get(f"/documents/{document_id}/receipt")["status"] == "complete"

    until(is_complete, seconds=60)
    removed = person.get(f"/documents/{document_id}/receipt")["removed"]
    assert removed["chunks"] >= 1
    assert removed["files"] == 3
    messages = person.get(f"/conversations/{answer['conversation_id']}/messages")["items"]
    assert messages[1]["citations"][0]["marker"] == answer["citations"][0]["marker"]
    assert messages[1]["citations"][0]["quote"] == "", "history keeps markers, not quotes"
    person.http.close()


def test_files_that_cannot_be_read_fail_with_a_reason(person: Person) -> None:
    broken = {
        "broken.pdf": (b"%PDF-1.7\n" + b"nonsense " * 100, "corrupt"),
        "broken.docx": (b"PK\x03\x04" + b"nonsense " * 100, "corrupt"),
        "blank.txt": (b" \n\t\n " * 20, "no-text"),
    }
    ids = {name: person.upload(name, content)[0] for name, (content, _) in broken.items()}
    for name, (_, code) in broken.items():
        document = person.finished(ids[name])
        assert document["status"] == "failed", name
        assert document["error"]["code"] == code
        assert document["error"]["detail"].endswith(".")
        assert document["version"] is None


def test_refresh_and_logout(platform: RunningPlatform) -> None:
    person = Person(platform.base_url)
    assert person.get("/auth/me")["tenant"]["name"] == "Birds"
    old = person.tokens
    new = person.http.post("/auth/refresh", json={"refresh_token": old["refresh_token"]}).json()
    person.http.headers["authorization"] = f"Bearer {new['access_token']}"
    assert person.get("/auth/me")["user"]["email"] == person.email
    assert person.http.post("/auth/logout", json={}).status_code == 204
    assert person.http.get("/auth/me").status_code == 401
    body = {"refresh_token": new["refresh_token"]}
    assert person.http.post("/auth/refresh", json=body).status_code == 401
    login = {"email": person.email.upper(), "password": person.password}
    assert person.http.post("/auth/login", json=login).status_code == 200
    person.http.close()


def test_health_and_metrics(platform: RunningPlatform) -> None:
    ready = httpx.get(f"{platform.base_url}/health/ready").json()
    assert ready["status"] == "ok"
    assert ready["parts"]["generator"] == {
        "status": "ok",
        "model": "extractive",
        "reason": ready["parts"]["generator"]["reason"],
    }
    metrics = httpx.get(f"{platform.admin_url}/metrics").text
    assert "polyplane_gateway_requests_total" in metrics
    assert httpx.get(f"{platform.base_url}/metrics").status_code == 404
    document = httpx.get(f"{platform.base_url}/openapi.json").json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), f"{method} {path} has no summary"
            assert operation.get("tags"), f"{method} {path} has no tag"
    docs = httpx.get(f"{platform.base_url}/docs").text
    assert "cdn" not in docs, "the documentation pages need no internet"
