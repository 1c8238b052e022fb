"""How many answers one process gives at a time."""

import asyncio

import pytest

from tests.integration.gateway.conftest import Person
from tests.integration.gateway.plane import FakePlane


@pytest.fixture
def overrides() -> dict[str, object]:
    return {"max_answers": 2}


async def test_no_more_answers_than_allowed_begin_at_once(person: Person, plane: FakePlane) -> None:
    plane.hold = asyncio.Event()
    asking = [
        asyncio.create_task(person.http.post("/chat", json={"message": "How long?"}))
        for _ in range(10)
    ]
    while sum(each.done() for each in asking) < 8:
        await asyncio.wait(
            [each for each in asking if not each.done()], return_when=asyncio.FIRST_COMPLETED
        )
    refused = [each.result() for each in asking if each.done()]
    assert {answer.status_code for answer in refused} == {503}
    assert all(answer.headers["retry-after"] for answer in refused)
    plane.hold.set()
    statuses = sorted(answer.status_code for answer in await asyncio.gather(*asking))
    assert statuses == [200] * 2 + [503] * 8
    assert (await person.http.post("/chat", json={"message": "And now?"})).status_code == 200
