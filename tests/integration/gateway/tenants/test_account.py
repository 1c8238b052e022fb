"""Deleting one's own account."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from redis.asyncio import Redis

from planes.shared.stores.postgres import Database
from tests.integration.gateway.conftest import PASSWORD, Person, until
from tests.integration.gateway.tenants.conftest import Join, email_of

pytestmark = pytest.mark.integration


async def delete_me(person: Person, **body: str) -> httpx.Response:
    return await person.http.request("DELETE", "/auth/me", json=body or {"password": PASSWORD})


async def test_a_deleted_account_is_out_at_once_and_its_address_is_free(
    person: Person, admin_database: Database
) -> None:
    email = await email_of(person)
    await person.http.post("/chat", json={"message": "How long?"})
    deleted = await delete_me(person)
    assert deleted.status_code == 202
    [tenant] = deleted.json()["tenants"]
    assert (deleted.json()["user_id"], tenant["tenant_id"]) == (person.user_id, person.tenant_id)
    assert (await person.http.get("/auth/me")).status_code == 401
    login = await person.http.post("/auth/login", json={"email": email, "password": PASSWORD})
    assert login.status_code == 401
    again = {"email": email, "password": PASSWORD}
    assert (await person.http.post("/auth/register", json=again)).status_code == 201
    receipt = await person.http.get(f"/tenant/receipts/{tenant['receipt']}")
    assert receipt.json()["status"] == "deleting"

    async def is_forgotten() -> bool:
        async with admin_database.platform() as connection:
            return not await connection.fetchval(
                "SELECT (SELECT count(*) FROM conversations) + (SELECT count(*) FROM chat_messages)"
            )

    await until(is_forgotten, seconds=30)
    async with admin_database.platform() as connection:
        user = await connection.fetchrow(
            "SELECT email, display_name, password_hash FROM users WHERE id = $1",
            UUID(person.user_id),
        )
        assert tuple(user) == ("", "", None)
        assert await connection.fetchval("SELECT count(*) FROM ledger") == 1


@pytest.fixture
async def forgiven(redis_url: str) -> AsyncIterator[None]:
    """Forgets before and afterwards what this address did wrong: other tests share it."""
    async with Redis.from_url(redis_url) as redis:
        await redis.delete("attempts:address:127.0.0.1")
        yield
        await redis.delete("attempts:address:127.0.0.1")


@pytest.mark.usefixtures("forgiven")
async def test_a_wrong_password_deletes_nothing_and_is_counted(person: Person) -> None:
    by_address = await delete_me(person, confirm_email=await email_of(person))
    assert by_address.status_code == 403
    for _ in range(9):
        assert (await delete_me(person, password=secrets.token_hex(10))).status_code == 403
    assert (await delete_me(person, password=PASSWORD)).status_code == 429
    assert (await person.http.get("/auth/me")).status_code == 200


async def test_an_account_without_a_password_confirms_by_its_address(
    person: Person, admin_database: Database
) -> None:
    async with admin_database.platform() as connection:
        await connection.execute(
            "UPDATE users SET password_hash = NULL WHERE id = $1", UUID(person.user_id)
        )
    assert (await delete_me(person, password=PASSWORD)).status_code == 403
    assert (await delete_me(person, confirm_email="grace@example.com")).status_code == 403
    email = await email_of(person)
    assert (await delete_me(person, confirm_email=email.upper())).status_code == 202


async def test_the_last_owner_of_others_must_hand_over_first(person: Person, join: Join) -> None:
    member = await join(person, "member")
    refused = await delete_me(person)
    assert refused.status_code == 409
    assert refused.json()["tenants"] == [person.tenant_id]
    path = f"/tenant/members/{member.user_id}"
    assert (await person.http.patch(path, json={"role": "owner"})).status_code == 200
    assert (await delete_me(person)).status_code == 202


async def test_documents_and_members_stay_where_an_account_leaves_a_shared_tenant(
    person: Person, join: Join
) -> None:
    member = await join(person, "member")
    files = {"file": ("a.txt", b"The warranty lasts two years.", "text/plain")}
    await member.http.post("/documents", files=files)
    deleted = await delete_me(member)
    assert [each["tenant_id"] for each in deleted.json()["tenants"]] != [person.tenant_id]
    assert (await member.http.get("/tenant")).status_code == 401
    members = (await person.http.get("/tenant/members")).json()["items"]
    assert [each["id"] for each in members] == [person.user_id]
    assert len((await person.http.get("/documents")).json()["items"]) == 1
    acts = (await person.http.get("/tenant/audit", params={"actor": member.user_id})).json()
    assert acts["items"][0]["action"] == "user.deleted"
    assert acts["items"][0]["actor"]["display_name"] is None


async def test_of_two_owners_who_delete_their_accounts_at_once_one_stays_for_the_others(
    person: Person, join: Join
) -> None:
    second, member = await join(person, "owner"), await join(person, "member")
    answers = await asyncio.gather(delete_me(person), delete_me(second))
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    members = (await member.http.get("/tenant/members")).json()["items"]
    assert sorted(each["role"] for each in members) == ["member", "owner"]
