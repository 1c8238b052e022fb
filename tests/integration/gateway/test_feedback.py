"""What people say of answers: their own, once each, and on its way to the evaluation set."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from planes.data.evaluation.dataset import read_dataset
from planes.shared.domain import new_id
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog
from planes.shared.wire import CitationOut
from services.gateway.chat.history import ChatHistory
from services.gateway.feedback.corpus import CorpusDocument
from services.gateway.feedback.dataset import write_dataset
from services.gateway.feedback.review import FeedbackReview, Reviewable
from tests.integration.gateway.conftest import Person, until
from tests.integration.gateway.plane import FakePlane

pytestmark = pytest.mark.integration
DOCUMENT = "01a1fd26-1267-7285-bf84-61d8d204dc7a"


@pytest.fixture
async def plane() -> FakePlane:
    """A plane that cites a document."""
    cited = CitationOut(
        marker="[1]",
        document_id=DOCUMENT,
        document_name="warranty.md",
        version=1,
        page=None,
        start=0,
        end=9,
        quote="Two years",
        score=0.9,
    )
    return FakePlane(citations=[cited])


@pytest.fixture
async def review(database_urls: dict[str, str]) -> AsyncIterator[FeedbackReview]:
    """The operator's review, without a gateway."""
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    yield FeedbackReview(database, ChatHistory(database, PostgresChatLog(database)))
    await database.close()


async def accepted(review: FeedbackReview, tenant_id: UUID) -> list[Reviewable]:
    return [each async for each in review.accepted(tenant_id)]


async def listed(*documents: CorpusDocument) -> AsyncIterator[CorpusDocument]:
    for document in documents:
        yield document


async def answered(person: Person, question: str = "How long is the warranty?") -> dict[str, Any]:
    answer = await person.http.post("/chat", json={"message": question})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def said(person: Person, message_id: str, **what: str) -> dict[str, Any]:
    answer = await person.http.post("/feedback", json={"message_id": message_id, **what})
    assert answer.status_code == 201, answer.text
    return answer.json()


async def test_feedback_is_joined_to_the_answer_its_passages_and_its_model(person: Person) -> None:
    answer = await answered(person)
    given = await said(
        person, answer["message"]["id"], rating="down", comment="Old.", correction="Three years."
    )
    assert given["message_id"] == answer["message"]["id"]
    assert given["user_id"] == person.user_id
    assert given["model"] == "test-model"
    assert (given["rating"], given["comment"], given["correction"]) == (
        "down",
        "Old.",
        "Three years.",
    )
    place = {"marker": "[1]", "document_id": DOCUMENT, "version": 1, "page": None}
    assert given["citations"] == [{**place, "start": 0, "end": 9}]
    assert (await person.http.get("/feedback")).json()["items"] == [given]


async def test_later_feedback_takes_the_place_of_what_was_said_before(person: Person) -> None:
    answer = await answered(person)
    first = await said(person, answer["message"]["id"], rating="down", comment="Old.")
    later = await said(person, answer["message"]["id"], rating="up")
    assert later["id"] == first["id"]
    assert later["created_at"] == first["created_at"]
    assert (later["rating"], later["comment"]) == ("up", None)
    assert (await person.http.get("/feedback")).json()["items"] == [later]


async def test_a_repeated_key_says_it_once(person: Person) -> None:
    answer = await answered(person)
    body = {"message_id": answer["message"]["id"], "rating": "up"}
    key = {"idempotency-key": "said"}
    told = [await person.http.post("/feedback", json=body, headers=key) for _ in range(2)]
    assert told[0].json() == told[1].json()
    assert told[1].headers["idempotency-replayed"] == "true"


async def test_only_own_answers_can_be_rated(person: Person, stranger: Person) -> None:
    answer = await answered(person)
    foreign = {"message_id": answer["message"]["id"], "rating": "up"}
    absent = {"message_id": str(new_id()), "rating": "up"}
    answers = [await stranger.http.post("/feedback", json=body) for body in (foreign, absent)]
    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]


async def test_a_question_cannot_be_rated(person: Person) -> None:
    answer = await answered(person)
    path = f"/conversations/{answer['conversation_id']}/messages"
    question = (await person.http.get(path)).json()["items"][0]
    refused = await person.http.post(
        "/feedback", json={"message_id": question["id"], "rating": "up"}
    )
    assert refused.status_code == 404


async def test_an_answer_of_the_openai_api_can_be_rated(person: Person) -> None:
    asked = {"model": "polyplane", "messages": [{"role": "user", "content": "How long?"}]}

    async def answers() -> bool:
        return (await person.http.get("/v1/models")).is_success

    await until(answers)
    answer = (await person.http.post("/v1/chat/completions", json=asked)).json()
    message = answer["choices"][0]["message"]
    assert (await said(person, message["message_id"], rating="up"))["model"] == "test-model"


async def test_owners_see_the_tenants_feedback_and_members_their_own(
    person: Person, stranger: Person, database_urls: dict[str, str]
) -> None:
    owner = await asyncpg.connect(database_urls["admin"])
    await owner.execute(
        "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, 'viewer')",
        person.tenant_id,
        stranger.user_id,
    )
    await owner.close()
    switched = await stranger.http.post("/auth/switch", json={"tenant_id": person.tenant_id})
    stranger.http.headers["authorization"] = f"Bearer {switched.json()['access_token']}"
    answer = await answered(stranger, "Where is the secret?")
    given = await said(stranger, answer["message"]["id"], rating="up", comment="Thanks.")
    refused = await stranger.http.get("/tenant/feedback")
    assert refused.status_code == 403
    assert (await person.http.get("/feedback")).json()["items"] == []
    seen = await person.http.get("/tenant/feedback")
    assert seen.json()["items"] == [given]
    assert "secret" not in seen.text
    assert "Two years" not in seen.text


async def test_feedback_goes_with_its_conversation(
    person: Person, database_urls: dict[str, str]
) -> None:
    answer = await answered(person)
    await said(person, answer["message"]["id"], rating="up")
    await person.http.delete(f"/conversations/{answer['conversation_id']}")
    assert (await person.http.get("/feedback")).json()["items"] == []
    owner = await asyncpg.connect(database_urls["admin"])

    async def gone() -> bool:
        rows = "SELECT (SELECT count(*) FROM feedback) + (SELECT count(*) FROM answers)"
        return await owner.fetchval(rows) == 0

    await until(gone)
    await owner.close()


@pytest.mark.parametrize(
    "wrong",
    [{"rating": "good"}, {"comment": "x" * 4001}, {"correction": "\x00"}, {"message_id": "x"}],
)
async def test_what_is_no_feedback_is_refused(person: Person, wrong: dict[str, str]) -> None:
    body = {"message_id": str(new_id()), "rating": "up", **wrong}
    assert (await person.http.post("/feedback", json=body)).status_code == 422


class TestReview:
    """From what people say to what answers are evaluated by."""

    async def test_what_was_accepted_becomes_queries_and_qrels(
        self, person: Person, review: FeedbackReview, tmp_path: Path
    ) -> None:
        good = await said(person, (await answered(person))["message"]["id"], rating="up")
        other = await answered(person, "What is it?")
        bad = await said(person, other["message"]["id"], rating="down", correction="A heron.")
        waiting = [each async for each in review.waiting()]
        assert [str(each.id) for each in waiting] == [good["id"], bad["id"]]
        assert waiting[0].question == "How long is the warranty?"
        assert waiting[0].answer == "Two years [1]."
        for each in waiting:
            await review.decide(each, is_accepted=True)
        assert [each async for each in review.waiting()] == []

        tenant_id = waiting[0].tenant_id
        await review.begin_export(tenant_id)
        corpus = listed(CorpusDocument(UUID(DOCUMENT), "warranty.md", "Two years. It is a heron."))
        written = await write_dataset(tmp_path / "set", review.accepted(tenant_id), corpus)
        assert (written.documents, written.questions, written.judged) == (1, 2, 1)
        queries = (tmp_path / "set/queries.jsonl").read_text().splitlines()
        assert [json.loads(query)["text"] for query in queries] == [
            "How long is the warranty?",
            "What is it?",
        ]
        assert json.loads(queries[1])["metadata"]["correction"] == "A heron."
        qrels = (tmp_path / "set/qrels/test.tsv").read_text().splitlines()
        assert qrels == ["query-id\tcorpus-id\tscore", f"{good['id']}\t{DOCUMENT}\t1"]
        with pytest.raises(FileExistsError):
            await write_dataset(tmp_path / "set", review.accepted(tenant_id), listed())
        judged = read_dataset(tmp_path / "set")  # as `polyplane eval` does
        assert [entry.title for entry in judged.corpus] == ["warranty.md"]
        assert [question.grades for question in judged.questions] == [{DOCUMENT: 1.0}]
        acts = (await person.http.get("/tenant/audit")).json()["items"]
        assert [act["action"] for act in acts[:3]] == [
            "feedback.exported",
            "feedback.reviewed",
            "feedback.reviewed",
        ]

    async def test_what_was_rejected_or_changed_since_is_not_exported(
        self, person: Person, review: FeedbackReview
    ) -> None:
        message_id = (await answered(person))["message"]["id"]
        await said(person, message_id, rating="up")
        [first] = [each async for each in review.waiting()]
        await review.decide(first, is_accepted=True, relevant=[new_id()])
        await said(person, message_id, rating="down")
        assert await accepted(review, first.tenant_id) == []
        with pytest.raises(Conflict):
            await review.decide(first, is_accepted=True)
        again = await review.find(first.id)
        assert (again.rating, again.relevant) == ("down", ())
        await review.decide(again, is_accepted=False)
        with pytest.raises(Conflict):  # another reviewer had it open too
            await review.decide(again, is_accepted=True)
        assert await accepted(review, first.tenant_id) == []
        for absent in (again.id, new_id()):
            with pytest.raises(NotFound):
                await review.find(absent)

    async def test_an_answer_that_was_replaced_is_rated_and_reviewed_as_it_was(
        self, person: Person, review: FeedbackReview, plane: FakePlane
    ) -> None:
        first = await answered(person)
        early = await said(person, first["message"]["id"], rating="down")
        plane.words = ["Three", " years [1]."]
        path = f"/conversations/{first['conversation_id']}/messages"
        second = await person.http.post(path, json={"regenerate": True})
        late = await said(person, first["message"]["id"], rating="up")
        other = await said(person, second.json()["message"]["id"], rating="down")
        assert late["id"] == early["id"]
        waiting = {str(each.id): each async for each in review.waiting()}
        assert waiting[late["id"]].answer == "Two years [1]."
        assert waiting[other["id"]].answer == "Three years [1]."
        assert {each.question for each in waiting.values()} == {"How long is the warranty?"}


async def test_another_tenants_feedback_is_not_exported(
    person: Person, stranger: Person, review: FeedbackReview
) -> None:
    for each in (person, stranger):
        await said(each, (await answered(each))["message"]["id"], rating="up")
    waiting = [each async for each in review.waiting()]
    for each in waiting:
        await review.decide(each, is_accepted=True)
    for each in waiting:
        assert [found.id for found in await accepted(review, each.tenant_id)] == [each.id]
    with pytest.raises(NotFound):
        await review.begin_export(new_id())
