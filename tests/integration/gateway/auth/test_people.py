"""What the operator does to people, by `polyplane admin`."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID

import pytest
from click.testing import Result
from typer.testing import CliRunner

from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_address import RedisSettings
from services.cli import admin_people, admin_tenants
from services.cli.main import app
from services.embedded.ports import free_port
from tests.integration.gateway.auth.conftest import PASSWORD, SECRET, Client, bearer

pytestmark = pytest.mark.integration

NEW_PASSWORD = "nine ravens over the chimney"


@dataclass
class Installed:
    """As much of an installation as the commands use."""

    url: str
    redis_url: str
    folder: Path

    @property
    def home(self) -> SimpleNamespace:
        return SimpleNamespace(keys=self.folder / "keys")

    @property
    def secrets(self) -> dict[str, str]:
        return {"gateway_refresh_secret": SECRET}

    def database_url(self, role: str) -> str:
        assert role == "polyplane_gateway"
        return self.url

    def settings(self, kind: type[RedisSettings]) -> RedisSettings:
        return kind.of({"REDIS_URL": self.redis_url})


@pytest.fixture
def installed(
    database_urls: dict[str, str],
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Installed:
    installed = Installed(database_urls["gateway"], redis_url, tmp_path)
    for commands in (admin_people, admin_tenants):
        monkeypatch.setattr(commands, "running", lambda: installed)
    return installed


async def admin(*words: str, given: str = "") -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["admin", *words], given)


async def actions(database: Database, name: str) -> list[tuple[str, str]]:
    async with database.platform() as connection:
        rows = await connection.fetch(
            "SELECT action, actor_kind FROM audit_log WHERE action = $1", name
        )
    return [(row["action"], row["actor_kind"]) for row in rows]


@pytest.mark.usefixtures("installed")
async def test_a_disabled_person_is_out_at_once_and_may_be_let_in_again(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    body = {"name": "a program", "scopes": ["search"]}
    made = await client.post("/auth/api-keys", json=body, headers=bearer(account))
    program = {"authorization": f"Bearer {made.json()['key']}"}
    for caller in (bearer(account), program):
        assert (await client.get("/auth/me", headers=caller)).status_code == 200
    disabled = await admin("disable-user", "--email", "ADA@example.com")
    assert disabled.exit_code == 0, disabled.output
    for caller in (bearer(account), program):
        assert (await client.get("/auth/me", headers=caller)).status_code == 401
    assert (await client.refresh(account["refresh_token"])).status_code == 401
    assert (await client.login()).status_code == 401
    assert "disabled" in (await admin("list-users")).output
    enabled = await admin("enable-user", "--email", "ada@example.com")
    assert enabled.exit_code == 0, enabled.output
    assert (await client.refresh(account["refresh_token"])).status_code == 401
    assert (await client.login()).status_code == 200
    for act in ("user.disabled", "user.enabled"):
        assert await actions(admin_database, act) == [(act, "operator")]


@pytest.mark.usefixtures("installed")
async def test_a_password_set_by_the_operator_ends_all_sessions_and_keys(
    client: Client, admin_database: Database
) -> None:
    account = await client.register()
    body = {"name": "a program", "scopes": ["search"]}
    made = await client.post("/auth/api-keys", json=body, headers=bearer(account))
    program = {"authorization": f"Bearer {made.json()['key']}"}
    assert (await client.get("/auth/me", headers=program)).status_code == 200
    words = ("reset-password", "--email", "ada@example.com", "--password-stdin")
    weak = await admin(*words, given="password" * 3)
    assert weak.exit_code == 1
    assert (await client.get("/auth/me", headers=bearer(account))).status_code == 200
    done = await admin(*words, given=NEW_PASSWORD + "\n")
    assert done.exit_code == 0, done.output
    assert NEW_PASSWORD not in done.output
    for caller in (bearer(account), program):
        assert (await client.get("/auth/me", headers=caller)).status_code == 401
    assert await actions(admin_database, "api-key.ended") == [("api-key.ended", "operator")]
    assert (await client.refresh(account["refresh_token"])).status_code == 401
    assert (await client.login()).status_code == 401
    assert (await client.login(password=NEW_PASSWORD)).status_code == 200
    assert await actions(admin_database, "user.password-reset") == [
        ("user.password-reset", "operator")
    ]


@pytest.mark.usefixtures("installed")
async def test_a_deleted_account_is_nobody_to_the_operator(
    client: Client, admin_database: Database
) -> None:
    user_id = (await client.register())["user"]["id"]
    async with admin_database.platform() as connection:
        await connection.execute(
            "UPDATE users SET email = '', email_key = 'deleted:' || id, password_hash = NULL,"
            " disabled_at = now(), deleted_at = now()"
        )
    assert user_id not in (await admin("list-users")).output
    enabled = await admin("enable-user", "--email", f"deleted:{user_id}")
    assert enabled.exit_code == 1, enabled.output


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("command", ["reset-password", "disable-user", "enable-user"])
async def test_nobody_is_an_error(command: str) -> None:
    answer = await admin(command, "--email", "nobody@example.com", given=f"{PASSWORD}\n" * 2)
    assert answer.exit_code == 1
    assert "Nobody has this e-mail address" in answer.output


async def test_an_act_that_redis_did_not_hear_of_is_not_reported_as_done(
    client: Client, installed: Installed
) -> None:
    await client.register()
    installed.redis_url = f"redis://127.0.0.1:{free_port()}/0"
    answer = await admin("disable-user", "--email", "ada@example.com")
    assert answer.exit_code == 1
    assert "does not answer" in answer.output


@pytest.mark.usefixtures("installed")
async def test_the_lists_tell_tenants_and_who_belongs_to_them(
    client: Client, admin_database: Database
) -> None:
    ada, bob = await client.register(tenant_name="Acme [bold]"), await client.register("bob")
    acme, bobs = ada["tenant"]["id"], bob["tenant"]["id"]
    async with admin_database.platform() as connection:
        await connection.execute(
            "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, 'viewer')",
            UUID(acme),
            UUID(bob["user"]["id"]),
        )
        await connection.execute("UPDATE tenants SET plan = 'pro' WHERE id = $1", UUID(acme))
    listed = await admin("list-tenants")
    assert listed.exit_code == 0, listed.output
    first, second = [line.split("  ") for line in listed.output.splitlines()]
    assert [each.strip() for each in first if each][1:] == [acme, "pro", "2 members", "Acme [bold]"]
    assert [each.strip() for each in second if each][1:4] == [bobs, "free", "1 member"]
    people = (await admin("list-users")).output.splitlines()
    assert ["ada@example.com" in people[0], acme in people[0], bobs in people[0]] == [
        True,
        True,
        False,
    ]
    assert acme in people[1]
    assert bobs in people[1]
