"""Asking people into a tenant."""

import asyncio
import hashlib
from uuid import UUID, uuid4

import pytest

from planes.shared.stores.postgres import Database
from tests.integration.gateway.conftest import Person
from tests.integration.gateway.tenants.conftest import (
    Join,
    accept,
    email_of,
    invite,
    switch,
)

pytestmark = pytest.mark.integration


async def test_the_invited_person_becomes_a_member_in_the_invited_role(
    person: Person, stranger: Person
) -> None:
    made = await invite(person, (await email_of(stranger)).upper(), "admin")
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    accepted = await accept(stranger, made.json()["token"])
    assert accepted.json()["role"] == "admin"
    assert accepted.json()["tenant"]["id"] == person.tenant_id
    assert (await switch(stranger, person.tenant_id)).status_code == 200
    me = (await stranger.http.get("/auth/me")).json()
    assert (me["tenant"]["id"], me["user"]["role"]) == (person.tenant_id, "admin")
    assert (await person.http.get("/tenant/invitations")).json()["items"] == []


async def test_a_session_goes_on_beside_the_one_in_another_tenant(
    person: Person, stranger: Person
) -> None:
    token = (await invite(person, await email_of(stranger))).json()["token"]
    await accept(stranger, token)
    before = stranger.http.headers["authorization"]
    await switch(stranger, person.tenant_id)
    old = await stranger.http.get("/auth/me", headers={"authorization": before})
    assert old.json()["tenant"]["id"] != person.tenant_id


async def test_nobody_enters_a_tenant_that_they_do_not_belong_to(
    person: Person, stranger: Person
) -> None:
    foreign = await switch(stranger, person.tenant_id)
    absent = await switch(stranger, str(uuid4()))
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"] == absent.json()["detail"]


async def test_fifty_parallel_acceptances_make_one_member(
    person: Person, stranger: Person, admin_database: Database
) -> None:
    token = (await invite(person, await email_of(stranger))).json()["token"]
    answers = await asyncio.gather(*(accept(stranger, token) for _ in range(50)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, *[404] * 49]
    async with admin_database.platform() as connection:
        joined = await connection.fetchval(
            "SELECT count(*) FROM audit_log WHERE action = 'member.joined'"
        )
    assert joined == 1


async def test_a_token_is_stored_hashed_and_shown_once(
    person: Person, admin_database: Database
) -> None:
    key = {"idempotency-key": uuid4().hex}
    body = {"email": "grace@example.com", "role": "viewer"}
    made = await person.http.post("/tenant/invitations", json=body, headers=key)
    token = made.json()["token"]
    again = await person.http.post("/tenant/invitations", json=body, headers=key)
    assert (again.json()["id"], again.json()["token"]) == (made.json()["id"], None)
    listed = (await person.http.get("/tenant/invitations")).json()["items"]
    assert [each["email"] for each in listed] == ["grace@example.com"]
    assert "token" not in listed[0]
    async with admin_database.platform() as connection:
        stored = await connection.fetchval("SELECT token_hash FROM invitations")
    assert stored == hashlib.sha256(token.encode()).digest()


async def test_an_invitation_for_somebody_else_is_refused_and_does_not_say_for_whom(
    person: Person, stranger: Person
) -> None:
    token = (await invite(person, "grace@example.com")).json()["token"]
    refused = await accept(stranger, token)
    assert refused.status_code == 403
    assert "grace" not in refused.text


async def test_a_withdrawn_an_expired_a_replaced_and_an_invented_invitation_answer_alike(
    person: Person, stranger: Person, admin_database: Database
) -> None:
    email = await email_of(stranger)
    replaced = (await invite(person, email)).json()
    withdrawn = (await invite(person, email)).json()
    path = f"/tenant/invitations/{withdrawn['id']}"
    assert (await stranger.http.delete(path)).status_code == 404
    assert (await person.http.delete(path)).status_code == 204
    assert (await person.http.delete(path)).status_code == 404
    expired = (await invite(person, email)).json()
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE invitations SET expires_at = now()")
    tokens = [each["token"] for each in (replaced, withdrawn, expired)]
    answers = [await accept(stranger, token) for token in (*tokens, "invented")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert (await person.http.get("/tenant/invitations")).json()["items"] == []


async def test_nobody_invites_above_their_own_role(person: Person, join: Join) -> None:
    admin, member = await join(person, "admin"), await join(person, "member")
    assert (await invite(admin, "grace@example.com", "owner")).status_code == 403
    assert (await invite(admin, "grace@example.com", "admin")).status_code == 201
    assert (await invite(member, "grace@example.com", "viewer")).status_code == 403


async def test_an_invitation_is_void_once_its_maker_may_not_give_the_role(
    person: Person, stranger: Person, join: Join
) -> None:
    admin = await join(person, "admin")
    token = (await invite(admin, await email_of(stranger), "admin")).json()["token"]
    path = f"/tenant/members/{admin.user_id}"
    await person.http.patch(path, json={"role": "member"})
    assert (await accept(stranger, token)).status_code == 404


async def test_an_invitation_is_void_while_its_maker_is_disabled(
    person: Person, stranger: Person, join: Join, admin_database: Database
) -> None:
    admin = await join(person, "admin")
    token = (await invite(admin, await email_of(stranger), "admin")).json()["token"]
    async with admin_database.platform() as connection:
        await connection.execute(
            "UPDATE users SET disabled_at = now() WHERE id = $1", UUID(admin.user_id)
        )
    assert (await accept(stranger, token)).status_code == 404


async def test_a_member_is_not_invited_again_and_keeps_the_role(
    person: Person, stranger: Person, join: Join, admin_database: Database
) -> None:
    admin = await join(person, "admin")
    assert (await invite(person, await email_of(admin), "viewer")).status_code == 409
    token = (await invite(person, await email_of(stranger), "viewer")).json()["token"]
    async with admin_database.platform() as connection:  # a member by another way meanwhile
        await connection.execute(
            "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, 'admin')",
            person.tenant_id,
            stranger.user_id,
        )
    assert (await accept(stranger, token)).status_code == 409
    await switch(stranger, person.tenant_id)
    assert (await stranger.http.get("/auth/me")).json()["user"]["role"] == "admin"


async def test_a_tenant_invites_so_many_people_a_day(
    person: Person, admin_database: Database
) -> None:
    async with admin_database.platform() as connection:
        await connection.execute(
            "INSERT INTO audit_log (id, tenant_id, actor_kind, action)"
            " SELECT gen_random_uuid(), $1, 'system', 'invitation.made'"
            " FROM generate_series(1, 199)",
            person.tenant_id,
        )
    assert (await invite(person, "grace@example.com")).status_code == 201
    refused = await invite(person, "hopper@example.com")
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) > 0


async def test_joining_leaving_and_inviting_stand_in_the_audit_log_for_owners(
    person: Person, join: Join
) -> None:
    admin = await join(person, "admin")
    await person.http.patch(f"/tenant/members/{admin.user_id}", json={"role": "viewer"})
    await person.http.delete(f"/tenant/members/{admin.user_id}")
    listed = (await person.http.get("/tenant/audit")).json()["items"]
    acts = [each for each in listed if each["action"] != "session.opened"]
    actions = [each["action"] for each in acts]
    assert actions[:4] == [
        "member.removed",
        "member.role-changed",
        "member.joined",
        "invitation.made",
    ]
    assert acts[1]["details"] == {"from": "admin", "to": "viewer"}
    assert acts[1]["subject"] == f"user:{admin.user_id}"
    assert acts[1]["actor"]["id"] == person.user_id
    assert "@" not in str(acts)


async def test_the_audit_log_is_filtered_paged_and_for_owners_only(
    person: Person, join: Join, stranger: Person
) -> None:
    admin = await join(person, "admin")
    await admin.http.patch("/tenant", json={"name": "Globex"})
    changed = await person.http.get("/tenant/audit", params={"action": "tenant.changed"})
    assert [each["actor"]["id"] for each in changed.json()["items"]] == [admin.user_id]
    theirs = await person.http.get("/tenant/audit", params={"actor": admin.user_id, "limit": 1})
    rest = {"actor": admin.user_id, "cursor": theirs.json()["next_cursor"]}
    older = (await person.http.get("/tenant/audit", params=rest)).json()["items"]
    assert {each["actor"]["id"] for each in older} == {admin.user_id}
    assert "tenant.changed" not in {each["action"] for each in older}
    future = await person.http.get("/tenant/audit", params={"from": "2999-01-01T00:00:00Z"})
    assert future.json()["items"] == []
    early = await person.http.get("/tenant/audit", params={"to": "0001-01-01T00:00:00+14:00"})
    assert early.status_code == 422
    unknown = await person.http.get("/tenant/audit", params={"action": "no.such"})
    assert unknown.status_code == 422
    assert (await admin.http.get("/tenant/audit")).status_code == 403
    foreign = (await stranger.http.get("/tenant/audit")).json()["items"]
    assert admin.user_id not in str(foreign)
