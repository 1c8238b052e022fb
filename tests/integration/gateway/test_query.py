"""Single questions: `POST /query`."""

import pytest

from tests.integration.gateway.conftest import Person
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.test_chat import usage_of

pytestmark = pytest.mark.integration


async def test_a_question_is_answered_with_its_sources_and_billed(
    person: Person, plane: FakePlane
) -> None:
    answer = await person.http.post("/query", json={"query": "How long?", "top_k": 3})
    assert answer.status_code == 200, answer.text
    assert answer.json()["answer"] == "Two years [1]."
    assert answer.json()["sources"] == []
    assert (answer.json()["finish_reason"], answer.json()["grounded"]) == ("stop", False)
    assert (plane.asked[0].message, plane.asked[0].top_k) == ("How long?", 3)
    assert (await usage_of(person))["totals"]["total_tokens"] == 43
    assert (await person.http.get("/conversations")).json()["items"] == []


async def test_a_repeated_key_is_answered_again_and_costs_nothing(person: Person) -> None:
    key = {"idempotency-key": "one query"}
    told = [
        await person.http.post("/query", json={"query": "How long?"}, headers=key) for _ in range(2)
    ]
    assert told[0].json() == told[1].json()
    assert told[1].headers["idempotency-replayed"] == "true"
    assert (await usage_of(person))["totals"]["messages"] == 1


async def test_a_single_question_that_somebody_goes_on_from_becomes_a_conversation_of_theirs(
    person: Person,
) -> None:
    await person.http.post("/query", json={"query": "How long?"})
    [single] = (await person.http.get("/conversations?listed=false")).json()["items"]
    path = f"/conversations/{single['id']}/messages"
    assert (await person.http.post(path, json={"message": "And then?"})).status_code == 200
    [listed] = (await person.http.get("/conversations")).json()["items"]
    assert listed["id"] == single["id"], "and does not expire as those of programs do"


@pytest.mark.parametrize("body", [{}, {"query": " "}, {"query": "x", "top_k": 51}, {"q": "x"}])
async def test_what_is_no_question_is_refused(person: Person, body: dict[str, object]) -> None:
    assert (await person.http.post("/query", json=body)).status_code == 422
