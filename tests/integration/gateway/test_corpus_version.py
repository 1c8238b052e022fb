"""The version of a tenant's documents goes with every question, and changes with them."""

import asyncpg
import httpx
import pytest

from planes.shared.wire import CacheLookup
from services.gateway.admin.routes import create_admin_app
from tests.integration.gateway.conftest import Gateway, Person
from tests.integration.gateway.plane import FakePlane

pytestmark = pytest.mark.integration


async def test_questions_and_searches_carry_the_version_of_the_documents(
    person: Person, stranger: Person, plane: FakePlane
) -> None:
    uploaded = await person.http.post("/documents", files={"file": ("a.txt", b"text")})
    document_id = uploaded.json()["document"]["id"]

    async def told(who: Person) -> int:
        assert (await who.http.post("/chat", json={"message": "Why?"})).status_code == 200
        assert (await who.http.post("/search", json={"query": "why"})).status_code == 200
        answered, searched = plane.asked[-1].scope, plane.searched[-1].scope
        assert answered.corpus_version == searched.corpus_version
        assert answered.corpus_version is not None
        return answered.corpus_version

    first, others = await told(person), await told(stranger)
    assert await told(person) == first
    await person.http.patch(f"/documents/{document_id}", json={"tags": ["a"]})
    changed = await told(person)
    assert changed > first
    await person.http.delete(f"/documents/{document_id}")
    assert await told(person) > changed
    assert await told(stranger) == others


async def test_a_question_that_repeats_with_its_key_carries_it_too(
    person: Person, plane: FakePlane
) -> None:
    headers = {"idempotency-key": "the same"}
    await person.http.post("/chat", json={"message": "Why?"}, headers=headers)
    assert plane.asked[-1].scope.corpus_version == 0


async def test_the_version_is_for_the_gateway_to_read(
    database_urls: dict[str, str], person: Person
) -> None:
    """Nobody else, and for nobody's table: it crosses the tenants' walls."""
    for role in ("serving", "data"):
        connection = await asyncpg.connect(database_urls[role])
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetchval("SELECT corpus_version_of($1)", person.tenant_id)
        await connection.close()


async def test_what_the_caches_said_is_counted_and_not_told(
    person: Person, plane: FakePlane, gateway: Gateway
) -> None:
    plane.caches = (
        CacheLookup(cache="answer", is_hit=False),
        CacheLookup(cache="retrieval", is_hit=True),
    )
    answer = await person.http.post("/chat", json={"message": "Why?"})
    assert "caches" not in answer.json()
    assert (await person.http.post("/search", json={"query": "why"})).json() == {"passages": []}
    transport = httpx.ASGITransport(create_admin_app(gateway.app))
    async with httpx.AsyncClient(transport=transport, base_url="http://admin") as admin_port:
        metrics = (await admin_port.get("/metrics")).text
    assert 'cache_lookups_total{cache="answer",outcome="miss"} 2.0' in metrics
    assert 'cache_lookups_total{cache="retrieval",outcome="hit"} 2.0' in metrics
