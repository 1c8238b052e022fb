"""OpenAI's own client, pointed at a gateway."""

from collections.abc import AsyncIterator

import pytest
from openai import AsyncOpenAI

from planes.shared.wire import CitationOut
from tests.integration.gateway.conftest import Gateway, Person, until
from tests.integration.gateway.plane import FakePlane


async def api_key(person: Person, *scopes: str) -> str:
    """Make an API key with these scopes."""
    body = {"name": "a program", "scopes": list(scopes)}
    answer = await person.http.post("/auth/api-keys", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["key"])


@pytest.fixture
def citation() -> CitationOut:
    """What the plane cites."""
    return CitationOut(
        marker="[1]",
        document_id="01a1fd26-1267-7285-bf84-61d8d204dc7a",
        document_name="warranty.md",
        version=1,
        page=None,
        start=0,
        end=9,
        quote="Two years",
        score=0.9,
    )


@pytest.fixture
async def openai(gateway: Gateway, person: Person) -> AsyncIterator[AsyncOpenAI]:
    """The asynchronous client, with an API key of `person`."""
    key = await api_key(person, "chat", "search")

    async def knows_its_model() -> bool:
        return (await person.http.get("/v1/models")).is_success

    await until(knows_its_model)
    async with AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0) as client:
        yield client


@pytest.fixture
async def plane(citation: CitationOut) -> FakePlane:
    """A plane that cites a document."""
    return FakePlane(citations=[citation])
