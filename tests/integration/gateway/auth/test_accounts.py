"""Registering and signing in."""

import asyncio
import json
import logging

import jwt
import pytest

from planes.shared.stores.postgres import Database
from tests.integration.gateway.auth.conftest import PASSWORD, Client, bearer, eventually

pytestmark = pytest.mark.integration


async def test_who_registers_owns_a_new_tenant_and_is_signed_in(client: Client) -> None:
    account = await client.register(display_name="Ada")
    assert account["token_type"] == "bearer"
    assert account["expires_in"] == 600
    me = await client.get("/auth/me", headers=bearer(account))
    assert me.status_code == 200
    assert me.json() == {"user": account["user"], "tenant": account["tenant"]}
    assert me.json()["user"]["role"] == "owner"
    assert me.json()["tenant"] == {
        "id": account["tenant"]["id"],
        "name": "Ada's workspace",
        "plan": "free",
    }


async def test_an_address_registers_once_whatever_its_case(client: Client) -> None:
    await client.register()
    body = {"email": "ADA@Example.com", "password": PASSWORD}
    answer = await client.post("/auth/register", json=body)
    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"


async def test_parallel_registrations_of_one_address_leave_one_account(
    client: Client, admin_database: Database
) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD}
    answers = await asyncio.gather(*(client.post("/auth/register", json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    async with admin_database.platform() as connection:
        for table in ("users", "tenants", "memberships", "sessions", "refresh_tokens"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 1  # noqa: S608


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"email": "no address"}, "/body/email"),
        ({"password": "short"}, "/body/password"),
        ({"password": "password" * 3}, "/body/password"),
        ({"password": "x" * 1025}, "/body/password"),
        ({"display_name": "a\x00b"}, "/body/display_name"),
        ({"role": "owner"}, "/body/role"),
    ],
)
async def test_a_bad_field_is_named_and_its_value_is_not_repeated(
    client: Client, fields: dict[str, str], pointer: str
) -> None:
    body = {"email": "ada@example.com", "password": PASSWORD, **fields}
    answer = await client.post("/auth/register", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert body["password"] not in answer.text


@pytest.mark.parametrize("email", ["a\x00da@example.com", "\ud800", "", "x" * 254])
async def test_a_sign_in_with_any_text_is_refused_politely(client: Client, email: str) -> None:
    content = json.dumps({"email": email, "password": "any \ud800 \x00 text"})
    json_type = {"content-type": "application/json"}
    by_json = await client.post("/auth/login", content=content, headers=json_type)
    assert by_json.status_code in {401, 422}
    form = {"username": email.encode(errors="replace").decode(), "password": "any \x00 text"}
    assert (await client.post("/auth/token", data=form)).status_code in {401, 422}


async def test_every_call_is_documented(client: Client) -> None:
    document = client.app.openapi()
    for path, operations in document["paths"].items():
        if path.startswith(("/auth", "/.well-known")):
            for operation in operations.values():
                assert operation["summary"]
                assert operation["description"]
    assert "bearer" in document["components"]["securitySchemes"]


async def test_public_keys_are_published(client: Client) -> None:
    account = await client.register()
    answer = await client.get("/.well-known/jwks.json")
    key_id = jwt.get_unverified_header(account["access_token"])["kid"]
    assert [key["kid"] for key in answer.json()["keys"]] == [key_id]


async def test_both_sign_ins_open_a_session(client: Client) -> None:
    account = await client.register()
    by_json = await client.login()
    form = {"grant_type": "password", "username": "Ada@example.com", "password": PASSWORD}
    by_form = await client.post("/auth/token", data=form)
    for answer in (by_json, by_form):
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        me = await client.get("/auth/me", headers=bearer(answer.json()))
        assert me.json()["user"] == account["user"]
    assert by_json.json().keys() == by_form.json().keys()


async def test_a_password_is_the_same_in_any_unicode_form(client: Client) -> None:
    await client.register(password="caf\u00e9 au lait sous la pluie")
    answer = await client.login(password="cafe\u0301 au lait sous la pluie")
    assert answer.status_code == 200


async def test_unknown_wrong_and_disabled_accounts_get_the_same_answer(
    client: Client, admin_database: Database
) -> None:
    await client.register("ada")
    await client.register("bob")
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE users SET disabled_at = now() WHERE email LIKE 'bob%'")
    unknown = await client.login("eve")
    wrong = await client.login("ada", "another password altogether")
    disabled = await client.login("bob")
    bodies = []
    for answer in (unknown, wrong, disabled):
        assert answer.status_code == 401
        bodies.append({**answer.json(), "trace_id": ""})
    assert bodies[0] == bodies[1] == bodies[2]


async def test_an_account_without_a_password_answers_as_for_a_wrong_one(
    client: Client, admin_database: Database
) -> None:
    account = await client.register("ada")
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE users SET password_hash = NULL")
    without = await client.login("ada")
    unknown = await client.login("eve")
    assert without.status_code == 401
    assert {**without.json(), "trace_id": ""} == {**unknown.json(), "trace_id": ""}
    body = {"current_password": PASSWORD, "new_password": "nine ravens over the chimney"}
    changed = await client.post("/auth/password", json=body, headers=bearer(account))
    assert changed.status_code == 403


async def test_who_belongs_to_no_tenant_any_more_gets_a_new_one(
    client: Client, admin_database: Database
) -> None:
    account = await client.register(display_name="Ada")
    async with admin_database.platform() as connection:
        await connection.execute("DELETE FROM memberships")
    wanted = {
        "email": "ada@example.com",
        "password": PASSWORD,
        "tenant_id": account["tenant"]["id"],
    }
    assert (await client.post("/auth/login", json=wanted)).status_code == 404
    answers = await asyncio.gather(*(client.login() for _ in range(5)))
    found = [await client.get("/auth/me", headers=bearer(each.json())) for each in answers]
    [tenant] = {each.json()["tenant"]["id"]: each.json()["tenant"] for each in found}.values()
    assert tenant["id"] != account["tenant"]["id"]
    assert tenant["name"] == "Ada's workspace"
    assert {each.json()["user"]["role"] for each in found} == {"owner"}


async def test_what_people_do_stands_in_the_audit_log(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    await client.login(password="another password altogether")
    await client.login("eve")
    body = {"current_password": PASSWORD, "new_password": "nine ravens over the chimney"}
    await client.post("/auth/password", json=body, headers=bearer(account))
    fresh = await client.refresh(account["refresh_token"])
    await client.post("/auth/logout", headers=bearer(fresh.json()))

    async def logged() -> list[str]:
        async with admin_database.platform() as connection:
            rows = await connection.fetch("SELECT * FROM audit_log ORDER BY id")
        assert {str(row["tenant_id"]) for row in rows} == {account["tenant"]["id"]}
        assert "example.com" not in str([dict(row) for row in rows])
        return sorted(row["action"] for row in rows)

    expected = [
        "session.ended",
        "session.opened",
        "session.refused",
        "user.password-changed",
        "user.registered",
    ]

    async def is_complete() -> bool:
        return await logged() == expected

    await eventually(is_complete)


async def test_a_tenant_of_others_cannot_be_entered(client: Client) -> None:
    await client.register("ada")
    globex = await client.register("bob")
    body = {
        "email": "ada@example.com",
        "password": PASSWORD,
        "tenant_id": globex["tenant"]["id"],
    }
    foreign = await client.post("/auth/login", json=body)
    absent = await client.post("/auth/login", json={**body, "tenant_id": globex["user"]["id"]})
    assert foreign.status_code == absent.status_code == 404
    assert foreign.json()["detail"] == absent.json()["detail"]


async def test_after_ten_failures_an_account_waits_but_is_not_locked(client: Client) -> None:
    await client.register()
    answers = await asyncio.gather(
        *(client.login(password="another password altogether") for _ in range(30))
    )
    codes = sorted(answer.status_code for answer in answers)
    assert codes == [401] * 10 + [429] * 20
    assert {each.headers["retry-after"] for each in answers if each.status_code == 429} == {"1"}

    async def may_try() -> bool:
        return (await client.login()).status_code == 200

    await eventually(may_try)
    assert (await client.login()).status_code == 200


async def test_success_forgets_the_failures_before_it(client: Client) -> None:
    await client.register()
    for _ in range(2):
        for _ in range(4):
            await client.login(password="another password altogether")
        assert (await client.login()).status_code == 200
    assert (await client.login(password="another password altogether")).status_code == 401


async def test_a_changed_password_ends_other_sessions_and_all_access_tokens(
    client: Client,
) -> None:
    here = await client.register()
    there = (await client.login()).json()
    body = {"current_password": PASSWORD, "new_password": "nine ravens over the chimney"}
    wrong = await client.post(
        "/auth/password",
        json={**body, "current_password": "another password altogether"},
        headers=bearer(here),
    )
    assert wrong.status_code == 403
    changed = await client.post("/auth/password", json=body, headers=bearer(here))
    assert changed.status_code == 204
    for tokens in (here, there):
        assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 401
    assert (await client.refresh(there["refresh_token"])).status_code == 401
    renewed = await client.refresh(here["refresh_token"])
    assert (await client.get("/auth/me", headers=bearer(renewed.json()))).status_code == 200
    assert (await client.login()).status_code == 401
    assert (await client.login(password=body["new_password"])).status_code == 200


async def test_secrets_are_not_logged(
    client: Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    account = await client.register()
    await client.login(password="another password altogether")
    await client.refresh(account["refresh_token"])
    output = caplog.text + "".join(capsys.readouterr())
    for secret in (PASSWORD, "another password", account["refresh_token"]):
        assert secret not in output
    assert account["access_token"] not in output
