"""Who belongs to a tenant, in which role, and who may change it."""

import asyncio

import pytest

from tests.integration.gateway.conftest import PASSWORD, Person
from tests.integration.gateway.tenants.conftest import Join, email_of, switch

pytestmark = pytest.mark.integration


async def set_role(actor: Person, member: Person, role: str) -> int:
    path = f"/tenant/members/{member.user_id}"
    return (await actor.http.patch(path, json={"role": role})).status_code


async def remove(actor: Person, member: Person) -> int:
    return (await actor.http.delete(f"/tenant/members/{member.user_id}")).status_code


async def test_the_tenant_tells_its_name_its_plan_and_what_is_left(
    person: Person, join: Join
) -> None:
    await join(person, "viewer")
    tenant = (await person.http.get("/tenant")).json()
    assert tenant["id"] == person.tenant_id
    assert (tenant["plan"], tenant["member_count"]) == ("free", 2)
    usage = (await person.http.get("/billing/usage")).json()
    assert tenant["quotas"] == usage["quotas"]


async def test_an_admin_renames_the_tenant_and_a_member_does_not(
    person: Person, join: Join
) -> None:
    admin, member = await join(person, "admin"), await join(person, "member")
    renamed = await admin.http.patch("/tenant", json={"name": " Globex "})
    assert renamed.json()["name"] == "Globex"
    assert (await member.http.patch("/tenant", json={"name": "Mine"})).status_code == 403
    assert (await person.http.patch("/tenant", json={"name": ""})).status_code == 422
    assert (await member.http.get("/auth/me")).json()["tenant"]["name"] == "Globex"


async def test_every_member_sees_the_members_and_only_admins_their_addresses(
    person: Person, join: Join
) -> None:
    viewer = await join(person, "viewer")
    seen_by_owner = (await person.http.get("/tenant/members")).json()["items"]
    seen_by_viewer = (await viewer.http.get("/tenant/members")).json()["items"]
    roles = {viewer.user_id: "viewer", person.user_id: "owner"}
    assert {each["id"]: each["role"] for each in seen_by_owner} == roles
    assert {each["id"]: each["role"] for each in seen_by_viewer} == roles
    assert {each["email"] for each in seen_by_owner} == {
        await email_of(person),
        await email_of(viewer),
    }
    assert {each["email"] for each in seen_by_viewer} == {None}


async def test_members_come_in_pages(person: Person, join: Join) -> None:
    ids = [person.user_id, *[(await join(person, "viewer")).user_id for _ in range(2)]]
    first = (await person.http.get("/tenant/members", params={"limit": 2})).json()
    cursor = {"limit": 2, "cursor": first["next_cursor"]}
    second = (await person.http.get("/tenant/members", params=cursor)).json()
    assert [each["id"] for each in first["items"] + second["items"]] == ids[::-1]
    assert second["next_cursor"] is None


async def test_a_new_role_voids_the_tokens_of_the_old_one_at_once(
    person: Person, join: Join
) -> None:
    admin = await join(person, "admin")
    assert await set_role(person, admin, "viewer") == 200
    assert (await admin.http.get("/tenant")).status_code == 401


async def test_admins_change_everybody_but_owners(person: Person, join: Join) -> None:
    admin, other, member = [await join(person, each) for each in ("admin", "admin", "member")]
    assert await set_role(admin, member, "owner") == 403
    assert await set_role(admin, person, "member") == 403
    assert await remove(admin, person) == 403
    assert await set_role(admin, member, "admin") == 200
    assert await set_role(admin, other, "viewer") == 200
    assert await remove(admin, member) == 204
    assert await remove(admin, other) == 204


async def test_members_and_strangers_change_nobody(
    person: Person, stranger: Person, join: Join
) -> None:
    member, viewer = await join(person, "member"), await join(person, "viewer")
    assert await set_role(member, viewer, "member") == 403
    assert await remove(member, viewer) == 403
    assert await set_role(stranger, member, "viewer") == 404
    assert await remove(stranger, member) == 404
    assert await set_role(person, stranger, "viewer") == 404


async def test_the_last_owner_stays_one(person: Person, join: Join) -> None:
    second = await join(person, "member")
    assert await set_role(person, person, "admin") == 409
    assert await remove(person, person) == 409
    assert await set_role(person, second, "owner") == 200
    assert await remove(person, person) == 204
    assert (await person.http.get("/tenant")).status_code == 401


async def test_of_owners_who_all_leave_at_once_one_stays(person: Person, join: Join) -> None:
    owners = [person, *[await join(person, "owner") for _ in range(4)]]
    outcomes = await asyncio.gather(*(remove(each, each) for each in owners))
    assert sorted(outcomes) == [204, 204, 204, 204, 409]
    last = owners[outcomes.index(409)]
    members = (await last.http.get("/tenant/members")).json()["items"]
    assert [(each["id"], each["role"]) for each in members] == [(last.user_id, "owner")]


async def test_of_owners_who_demote_each_other_at_once_one_stays(
    person: Person, join: Join
) -> None:
    first, second = await join(person, "owner"), await join(person, "owner")
    assert await remove(person, person) == 204
    outcomes = await asyncio.gather(
        set_role(first, second, "member"), set_role(second, first, "member")
    )
    assert sorted(outcomes) in ([200, 401], [200, 403])


async def test_whoever_is_removed_is_out_at_once_and_may_come_back_by_invitation_only(
    person: Person, join: Join
) -> None:
    member = await join(person, "member")
    login = {"email": await email_of(member), "password": PASSWORD}
    assert await remove(person, member) == 204
    assert (await member.http.get("/tenant")).status_code == 401
    tokens = (await member.http.post("/auth/login", json=login)).json()
    member.http.headers["authorization"] = f"Bearer {tokens['access_token']}"
    assert (await switch(member, person.tenant_id)).status_code == 404


async def test_removal_ends_the_members_api_keys(person: Person, join: Join) -> None:
    member = await join(person, "member")
    made = await member.http.post("/auth/api-keys", json={"name": "ci", "scopes": ["search"]})
    assert made.status_code == 201, made.text
    key = {"authorization": f"Bearer {made.json()['key']}"}
    assert (await member.http.get("/auth/me", headers=key)).status_code == 200
    assert await remove(person, member) == 204
    assert (await member.http.get("/auth/me", headers=key)).status_code == 401
