"""Staying signed in, and signing out."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_clients import redis_client
from tests.integration.gateway.auth.conftest import Client, bearer, gateway

pytestmark = pytest.mark.integration


async def age(admin_database: Database, refresh_token: str, column: str) -> None:
    """Let a minute pass for one refresh token, and for its expiry all of its time."""
    async with admin_database.platform() as connection:
        changed = await connection.execute(
            f"UPDATE refresh_tokens SET {column} = now() - interval '1 minute'"  # noqa: S608
            " WHERE token_hash = $1",
            hashlib.sha256(refresh_token.encode()).digest(),
        )
    assert changed == "UPDATE 1"


async def test_refreshing_gives_new_tokens_each_time(client: Client) -> None:
    first = await client.register()
    second = (await client.refresh(first["refresh_token"])).json()
    third = (await client.refresh(second["refresh_token"])).json()
    assert len({each["refresh_token"] for each in (first, second, third)}) == 3
    assert (await client.get("/auth/me", headers=bearer(third))).status_code == 200


async def test_fifty_parallel_refreshes_give_one_successor(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    answers = await asyncio.gather(*(client.refresh(account["refresh_token"]) for _ in range(50)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh_token"] for answer in answers}) == 1
    async with admin_database.platform() as connection:
        assert await connection.fetchval("SELECT count(*) FROM refresh_tokens") == 2


async def test_two_gateways_give_one_successor_and_reuse_on_either_ends_the_family_on_both(
    client: Client,
    admin_database: Database,
    database_urls: dict[str, str],
    redis_url: str,
    tmp_path: Path,
) -> None:
    account = await client.register()
    async with gateway(database_urls["gateway"], redis_url, tmp_path) as second:
        answers = await asyncio.gather(
            *(each.refresh(account["refresh_token"]) for each in [client, second] * 25)
        )
        assert {answer.status_code for answer in answers} == {200}
        [successor] = {answer.json()["refresh_token"] for answer in answers}
        async with admin_database.platform() as connection:
            assert await connection.fetchval("SELECT count(*) FROM refresh_tokens") == 2
        used = await second.refresh(successor)
        for each in (client, second):
            assert (await each.get("/auth/me", headers=bearer(used.json()))).status_code == 200
        assert (await second.refresh(account["refresh_token"])).status_code == 401, "reuse"
        for each in (client, second):
            for tokens in (account, answers[0].json(), used.json()):
                assert (await each.get("/auth/me", headers=bearer(tokens))).status_code == 401
        assert (await client.refresh(used.json()["refresh_token"])).status_code == 401


async def test_ends_of_sessions_stand_in_the_audit_log(
    client: Client, admin_database: Database
) -> None:
    first = await client.register()
    second = (await client.refresh(first["refresh_token"])).json()
    await client.refresh(second["refresh_token"])
    await client.refresh(first["refresh_token"])
    again = (await client.login()).json()
    await client.post("/auth/logout", headers=bearer(again))
    async with admin_database.platform() as connection:
        rows = await connection.fetch(
            "SELECT action, tenant_id, actor_id FROM audit_log"
            " WHERE action IN ('session.ended', 'session.refresh-reused') ORDER BY id"
        )
    assert [row["action"] for row in rows] == ["session.refresh-reused", "session.ended"]
    assert {str(row["tenant_id"]) for row in rows} == {first["tenant"]["id"]}
    assert {str(row["actor_id"]) for row in rows} == {first["user"]["id"]}


async def test_a_token_used_again_after_its_successor_ends_the_session(client: Client) -> None:
    first = await client.register()
    second = (await client.refresh(first["refresh_token"])).json()
    third = (await client.refresh(second["refresh_token"])).json()
    assert (await client.get("/auth/me", headers=bearer(third))).status_code == 200
    assert (await client.refresh(first["refresh_token"])).status_code == 401
    assert (await client.refresh(third["refresh_token"])).status_code == 401
    assert (await client.get("/auth/me", headers=bearer(third))).status_code == 401


async def test_a_token_used_again_after_ten_seconds_ends_the_session(
    client: Client, admin_database: Database
) -> None:
    first = await client.register()
    second = (await client.refresh(first["refresh_token"])).json()
    await age(admin_database, first["refresh_token"], "used_at")
    assert (await client.refresh(first["refresh_token"])).status_code == 401
    assert (await client.refresh(second["refresh_token"])).status_code == 401
    assert (await client.get("/auth/me", headers=bearer(second))).status_code == 401


async def test_reuse_in_one_session_leaves_the_users_other_sessions_alone(client: Client) -> None:
    first = await client.register()
    other = (await client.login()).json()
    second = (await client.refresh(first["refresh_token"])).json()
    await client.refresh(second["refresh_token"])
    assert (await client.refresh(first["refresh_token"])).status_code == 401
    assert (await client.refresh(other["refresh_token"])).status_code == 200


async def test_an_expired_or_invented_refresh_token_is_refused(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    assert (await client.refresh("invented")).status_code == 401
    await age(admin_database, account["refresh_token"], "expires_at")
    assert (await client.refresh(account["refresh_token"])).status_code == 401
    await client.app.state.identity.sessions.forget_expired()
    async with admin_database.platform() as connection:
        assert await connection.fetchval("SELECT count(*) FROM refresh_tokens") == 0


async def test_refresh_tokens_are_stored_hashed(client: Client, admin_database: Database) -> None:
    account = await client.register()
    async with admin_database.platform() as connection:
        rows = await connection.fetch("SELECT * FROM refresh_tokens")
    assert [row["token_hash"] for row in rows] == [
        hashlib.sha256(account["refresh_token"].encode()).digest()
    ]


async def test_signing_out_acts_at_once_on_both_tokens_and_on_this_session_alone(
    client: Client,
) -> None:
    here = await client.register()
    there = (await client.login()).json()
    for tokens in (here, there):
        assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 200
    assert (await client.post("/auth/logout", headers=bearer(here))).status_code == 204
    assert (await client.get("/auth/me", headers=bearer(here))).status_code == 401
    assert (await client.refresh(here["refresh_token"])).status_code == 401
    assert (await client.get("/auth/me", headers=bearer(there))).status_code == 200


async def test_signing_out_before_any_other_request_holds_when_redis_forgets(
    client: Client, redis_url: str
) -> None:
    account = await client.register()
    assert (await client.post("/auth/logout", headers=bearer(account))).status_code == 204
    async with redis_client(redis_url) as redis:
        async for key in redis.scan_iter(f"*{{{account['user']['id']}}}*"):
            await redis.delete(key)
    assert (await client.get("/auth/me", headers=bearer(account))).status_code == 401


async def test_a_refresh_token_of_the_callers_other_session_signs_that_out_too(
    client: Client,
) -> None:
    here = await client.register()
    there = (await client.login()).json()
    stranger = await client.register("eve")
    for token in (there["refresh_token"], stranger["refresh_token"], "invented"):
        again = (await client.login()).json()
        body = {"refresh_token": token}
        answer = await client.post("/auth/logout", json=body, headers=bearer(again))
        assert answer.status_code == 204
    assert (await client.get("/auth/me", headers=bearer(here))).status_code == 200
    assert (await client.get("/auth/me", headers=bearer(there))).status_code == 401
    assert (await client.get("/auth/me", headers=bearer(stranger))).status_code == 200


async def test_a_user_sees_and_ends_own_sessions_only(client: Client) -> None:
    here = await client.register()
    there = (await client.login()).json()
    stranger = await client.register("eve")
    page = (await client.get("/auth/sessions?limit=1", headers=bearer(here))).json()
    assert [session["current"] for session in page["items"]] == [False]
    rest = await client.get(
        "/auth/sessions", params={"cursor": page["next_cursor"]}, headers=bearer(here)
    )
    assert [session["current"] for session in rest.json()["items"]] == [True]
    assert rest.json()["next_cursor"] is None

    path = f"/auth/sessions/{page['items'][0]['id']}"
    assert (await client.delete(path, headers=bearer(stranger))).status_code == 404
    assert (await client.get("/auth/me", headers=bearer(there))).status_code == 200
    assert (await client.delete(path, headers=bearer(here))).status_code == 204
    assert (await client.get("/auth/me", headers=bearer(there))).status_code == 401
    assert (await client.delete(path, headers=bearer(here))).status_code == 404


async def test_a_disabled_user_and_a_removed_member_are_out_within_a_minute(
    client: Client, admin_database: Database
) -> None:
    ada, bob = await client.register("ada"), await client.register("bob")
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE users SET disabled_at = now() WHERE email LIKE 'ada%'")
        await connection.execute("DELETE FROM memberships WHERE role = 'owner'")
    for account in (ada, bob):
        assert (await client.get("/auth/me", headers=bearer(account))).status_code == 401
        assert (await client.refresh(account["refresh_token"])).status_code == 401


async def test_a_role_that_changed_needs_a_new_token(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE memberships SET role = 'viewer'")
    old = await client.get("/administration", headers=bearer(account))
    assert old.status_code == 401
    renewed = (await client.refresh(account["refresh_token"])).json()
    new = await client.get("/administration", headers=bearer(renewed))
    assert new.status_code == 403
