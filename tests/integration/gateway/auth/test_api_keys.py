"""API keys: made by a person, used by a program, ended at once."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from planes.shared.domain import new_id
from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_clients import redis_client
from services.gateway.auth.access import AccessControl
from services.gateway.auth.api_key_repository import ApiKeyRepository
from services.gateway.auth.api_keys import PresentedKeys
from services.gateway.auth.keys import SigningKeys
from services.gateway.auth.session_repository import SessionRepository
from services.gateway.auth.tokens import AccessTokens, TokenRules
from services.gateway.limits.addresses import AddressRates
from services.gateway.limits.gate import SessionGate, SessionKey
from services.gateway.limits.rates import EndpointClass, LocalRates, PlanLimits
from services.gateway.limits.scripts import RedisScripts
from tests.integration.gateway.auth.conftest import PASSWORD, Client, bearer, gateway
from tests.integration.gateway.auth.test_limits import RunningRedis, own_redis, redis  # noqa: F401

pytestmark = pytest.mark.integration


@pytest.fixture
async def second(
    database_urls: dict[str, str], redis_url: str, tmp_path: Path
) -> AsyncIterator[Client]:
    """Another gateway over the same stores and signing keys."""
    async with gateway(database_urls["gateway"], redis_url, tmp_path) as second:
        yield second


async def make(client: Client, tokens: dict, **fields: object) -> httpx.Response:
    body = {"name": "nightly import", "scopes": ["chat"], **fields}
    return await client.post("/auth/api-keys", json=body, headers=bearer(tokens))


async def made(client: Client, tokens: dict, **fields: object) -> dict:
    answer = await make(client, tokens, **fields)
    assert answer.status_code == 201, answer.text
    return answer.json()


def by(key: dict) -> dict[str, str]:
    return {"authorization": f"Bearer {key['key']}"}


async def who(client: Client, key: dict) -> httpx.Response:
    return await client.get("/auth/me", headers=by(key))


async def test_a_key_acts_as_its_maker_wherever_a_token_does(client: Client) -> None:
    account = await client.register()
    key = await made(client, account)
    assert re.fullmatch(r"pp_[a-z0-9]{8}_[A-Za-z0-9_-]{43}", key["key"])
    assert key["key"].startswith(key["prefix"] + "_")
    me = await who(client, key)
    assert me.status_code == 200
    assert me.json()["user"]["id"] == account["user"]["id"]
    answer = await client.post("/question", headers=by(key))
    assert answer.text == account["user"]["id"]


async def test_a_key_is_shown_once_and_stored_hashed(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    key = await made(client, account)
    listed = await client.get("/auth/api-keys", headers=bearer(account))
    assert key["key"] not in listed.text
    assert [each["prefix"] for each in listed.json()["items"]] == [key["prefix"]]
    secret = key["key"].rpartition("_")[2]
    async with admin_database.platform() as connection:
        dump = await connection.fetchval("SELECT string_agg(k::text, '') FROM api_keys k")
        log = await connection.fetchval("SELECT string_agg(l::text, '') FROM audit_log l")
    assert secret not in dump + log


async def test_a_key_does_what_its_scopes_say_and_nothing_that_is_for_people(
    client: Client,
) -> None:
    account = await client.register()
    reader = await made(client, account, scopes=["documents:read", "tenant:write"])
    assert (await client.post("/question", headers=by(reader))).status_code == 403
    assert (await client.get("/administration", headers=by(reader))).status_code == 200
    talker = await made(client, account)
    assert (await client.get("/administration", headers=by(talker))).status_code == 403
    body = {"current_password": PASSWORD, "new_password": "nine ravens over the chimney"}
    for method, path, content in (
        ("GET", "/auth/api-keys", None),
        ("POST", "/auth/api-keys", {"name": "more", "scopes": ["chat"]}),
        ("DELETE", f"/auth/api-keys/{talker['id']}", None),
        ("GET", "/auth/sessions", None),
        ("POST", "/auth/password", body),
        ("POST", "/auth/logout", None),
    ):
        answer = await client.request(method, path, json=content, headers=by(talker))
        assert answer.status_code == 403, path


@pytest.mark.parametrize(
    "fields",
    [
        {"scopes": []},
        {"scopes": ["everything"]},
        {"name": ""},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": "2099-01-01T00:00:00"},
        {"role": "owner"},
    ],
)
async def test_a_key_that_makes_no_sense_is_refused(client: Client, fields: dict) -> None:
    account = await client.register()
    assert (await make(client, account, **fields)).status_code == 422


async def test_an_ended_key_stops_at_once_on_every_gateway(client: Client, second: Client) -> None:
    account, stranger = await client.register(), await client.register("eve")
    key, other = await made(client, account), await made(client, account)
    for each in (client, second):
        assert (await who(each, key)).status_code == 200
    path = f"/auth/api-keys/{key['id']}"
    assert (await client.delete(path, headers=bearer(stranger))).status_code == 404
    assert (await client.delete(path, headers=bearer(account))).status_code == 204
    assert (await client.delete(path, headers=bearer(account))).status_code == 404
    for each in (client, second):
        assert (await who(each, key)).status_code == 401
        assert (await who(each, other)).status_code == 200
    listed = await client.get("/auth/api-keys", headers=bearer(account))
    assert [item["id"] for item in listed.json()["items"]] == [other["id"]]


async def test_an_ended_key_stays_ended_when_redis_forgets(client: Client, redis_url: str) -> None:
    account = await client.register()
    key = await made(client, account)
    assert (await who(client, key)).status_code == 200
    await client.delete(f"/auth/api-keys/{key['id']}", headers=bearer(account))
    async with redis_client(redis_url) as known:
        async for name in known.scan_iter(f"*{{{account['user']['id']}}}*"):
            await known.delete(name)
    assert (await who(client, key)).status_code == 401


async def test_a_key_has_the_role_that_its_maker_has_now(
    client: Client, second: Client, admin_database: Database
) -> None:
    account = await client.register()
    key = await made(client, account, scopes=["tenant:write"])
    for each in (client, second):
        assert (await each.get("/administration", headers=by(key))).status_code == 200
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE memberships SET role = 'viewer'")
        version = await connection.fetchval(
            "UPDATE users SET version = version + 1 RETURNING version"
        )
    user_id = UUID(account["user"]["id"])
    await client.app.state.identity.sessions.revoked(user_id, [], version=version)
    for each in (client, second):
        assert (await each.get("/administration", headers=by(key))).status_code == 403
        assert (await who(each, key)).status_code == 200


async def test_a_new_password_leaves_keys_alone(client: Client) -> None:
    account = await client.register()
    key = await made(client, account)
    assert (await who(client, key)).status_code == 200
    body = {"current_password": PASSWORD, "new_password": "nine ravens over the chimney"}
    changed = await client.post("/auth/password", json=body, headers=bearer(account))
    assert changed.status_code == 204
    assert (await who(client, key)).status_code == 200


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE users SET disabled_at = now(), version = version + 1 RETURNING version",
        "WITH gone AS (DELETE FROM memberships)"
        " UPDATE users SET version = version + 1 RETURNING version",
    ],
)
async def test_who_is_disabled_or_leaves_the_tenant_loses_the_keys_for_good(
    client: Client, second: Client, admin_database: Database, statement: str
) -> None:
    account = await client.register()
    key = await made(client, account)
    for each in (client, second):
        assert (await who(each, key)).status_code == 200
    async with admin_database.platform() as connection:
        version = await connection.fetchval(statement)
    user_id = UUID(account["user"]["id"])
    await client.app.state.identity.sessions.revoked(user_id, [], version=version)
    for each in (client, second):
        assert (await who(each, key)).status_code == 401
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE users SET disabled_at = NULL")
        await connection.execute(
            "INSERT INTO memberships (tenant_id, user_id, role) SELECT t.id, $1, 'owner'"
            " FROM tenants t ON CONFLICT DO NOTHING",
            user_id,
        )
    assert (await who(client, key)).status_code == 401


async def test_a_key_ends_when_it_expires(client: Client) -> None:
    account = await client.register()
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    key = await made(client, account, expires_at=soon.isoformat())
    assert (await who(client, key)).status_code == 200
    await asyncio.sleep(max(0.0, (soon - datetime.now(UTC)).total_seconds()))
    assert (await who(client, key)).status_code == 401


@pytest.mark.parametrize("key", ["pp_", "pp_short", "pp_abcdefgh_" + "x" * 43, "pp_" + "x" * 5000])
async def test_an_invented_key_opens_nothing(client: Client, key: str) -> None:
    assert (await who(client, {"key": key})).status_code == 401


async def test_the_last_use_is_noted_without_a_write_for_each_request(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    key = await made(client, account)
    assert key["last_used_at"] is None
    seen = set()
    for _ in range(3):
        await who(client, key)
        listed = await client.get("/auth/api-keys", headers=bearer(account))
        seen.add(listed.json()["items"][0]["last_used_at"])
    assert len(seen) == 1
    assert None not in seen
    async with admin_database.platform() as connection:
        updates = await connection.fetchval("SELECT xmin::text FROM api_keys")
        await who(client, key)
        assert await connection.fetchval("SELECT xmin::text FROM api_keys") == updates


async def test_nobody_has_more_than_fifty_keys_even_by_asking_at_once(client: Client) -> None:
    account = await client.register()
    answers = await asyncio.gather(*(make(client, account) for _ in range(60)))
    assert sorted(a.status_code for a in answers) == [201] * 50 + [409] * 10
    page = await client.get("/auth/api-keys?limit=30", headers=bearer(account))
    rest = await client.get(
        "/auth/api-keys",
        params={"limit": 30, "cursor": page.json()["next_cursor"]},
        headers=bearer(account),
    )
    assert rest.json()["next_cursor"] is None
    ids = [item["id"] for answer in (page, rest) for item in answer.json()["items"]]
    assert len(set(ids)) == 50
    assert ids == sorted(ids, reverse=True)


async def test_keys_share_their_makers_limits(client: Client, admin_database: Database) -> None:
    async with admin_database.platform() as connection:
        await connection.execute("UPDATE plans SET chat_requests_per_minute = 3")
    account = await client.register()
    key = await made(client, account)
    answers = [
        await client.post("/question", headers=each) for each in [bearer(account), by(key)] * 3
    ]
    assert sorted(a.status_code for a in answers) == [200] * 3 + [429] * 3


async def test_making_and_ending_a_key_stands_in_the_audit_log(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    key = await made(client, account)
    await client.delete(f"/auth/api-keys/{key['id']}", headers=bearer(account))
    async with admin_database.platform() as connection:
        rows = await connection.fetch(
            "SELECT action, subject, details FROM audit_log"
            " WHERE action LIKE 'api-key.%' ORDER BY id"
        )
    assert [row["action"] for row in rows] == ["api-key.made", "api-key.ended"]
    assert {row["subject"] for row in rows} == {f"api-key:{key['id']}"}
    assert rows[0]["details"] == {"prefix": key["prefix"], "scopes": ["chat"]}


async def test_keys_of_another_tenant_are_out_of_reach(
    client: Client, database_urls: dict[str, str]
) -> None:
    account, stranger = await client.register(), await client.register("eve")
    await made(client, account)
    listed = await client.get("/auth/api-keys", headers=bearer(stranger))
    assert listed.json()["items"] == []
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    async with database.tenant(UUID(stranger["tenant"]["id"])) as connection:
        assert await connection.fetchval("SELECT count(*) FROM api_keys") == 0
    await database.close()


async def test_an_address_that_guesses_keys_is_stopped_and_known_keys_go_on(
    database_urls: dict[str, str],
    redis: RunningRedis,  # noqa: F811 (the fixture)
    tmp_path: Path,
) -> None:
    async with gateway(database_urls["gateway"], redis.server.url(), tmp_path) as client:
        account = await client.register()
        key = await made(client, account)
        assert (await who(client, key)).status_code == 200
        statuses = []
        for number in range(700):
            guess = {"key": f"pp_k3v9x2ab_{number:043}"}
            statuses.append((answer := await who(client, guess)).status_code)
            if answer.status_code == 429:
                break
        assert statuses.count(401) >= 599
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1
        assert (await who(client, key)).status_code == 200
        assert (await client.get("/auth/me", headers=bearer(account))).status_code == 200


class _BusyGate(SessionGate):
    """A gate in front of which a user's version is raised again and again."""

    async def remember(self, session: SessionKey, limits: PlanLimits, *, history: int) -> None:
        await super().remember(session, limits, history=history)
        await self.revoke(session.user_id, [], version=session.version.user + 1)


async def test_a_key_goes_on_though_its_makers_version_changes_while_it_is_judged(
    client: Client, database_urls: dict[str, str], redis_url: str, tmp_path: Path
) -> None:
    account = await client.register()
    key = await made(client, account)
    client_of_redis = redis_client(redis_url)
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    scripts, rates = RedisScripts(client_of_redis), LocalRates(time.monotonic)
    gate = _BusyGate(scripts, token_lifetime_s=60)
    keys = PresentedKeys(ApiKeyRepository(database), AddressRates(scripts, rates))
    tokens = AccessTokens(SigningKeys(tmp_path / "keys"), TokenRules(), new_id=new_id)
    access = AccessControl(tokens, keys, gate, SessionRepository(database), rates)
    caller, counted = await access.admit(key["key"], EndpointClass.REQUESTS)
    assert str(caller.context.user_id) == account["user"]["id"]
    assert counted.is_admitted
    await client_of_redis.aclose()
    await database.close()
