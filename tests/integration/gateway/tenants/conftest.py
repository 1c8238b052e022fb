"""People in one another's tenants."""

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from planes.shared.stores.postgres import Database
from tests.integration.gateway.conftest import Gateway, Person

Join = Callable[[Person, str], Awaitable[Person]]


async def email_of(person: Person) -> str:
    return (await person.http.get("/auth/me")).json()["user"]["email"]


async def invite(inviter: Person, email: str, role: str = "member") -> httpx.Response:
    return await inviter.http.post("/tenant/invitations", json={"email": email, "role": role})


async def accept(person: Person, token: str) -> httpx.Response:
    return await person.http.post("/tenant/invitations/accept", json={"token": token})


async def switch(person: Person, tenant_id: str) -> httpx.Response:
    answer = await person.http.post("/auth/switch", json={"tenant_id": tenant_id})
    if answer.status_code == 200:
        tokens = answer.json()
        person.http.headers["authorization"] = f"Bearer {tokens['access_token']}"
        person.tenant_id = tenant_id
    return answer


@pytest.fixture
async def join(gateway: Gateway) -> AsyncIterator[Join]:
    """Makes somebody new a member of a person's tenant, in a session there."""
    joined = []

    async def join(inviter: Person, role: str) -> Person:
        person = await gateway.register()
        joined.append(person)
        invitation = await invite(inviter, await email_of(person), role)
        assert invitation.status_code == 201, invitation.text
        accepted = await accept(person, invitation.json()["token"])
        assert accepted.status_code == 200, accepted.text
        assert (await switch(person, inviter.tenant_id)).status_code == 200
        return person

    yield join
    for person in joined:
        await person.http.aclose()


@pytest.fixture
async def admin_database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """The database as its owner sees it."""
    database = Database(database_urls["admin"], service="test")
    await database.open()
    yield database
    await database.close()
