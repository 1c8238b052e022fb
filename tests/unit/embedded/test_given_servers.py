"""Server mode: what each part is told of servers that somebody else runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from planes.shared.settings import SettingsWrong
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from planes.shared.stores.redis_address import RedisSettings
from services.embedded.given_servers import GivenServers
from services.embedded.home import SECRETS, Home
from services.embedded.installation import Installation, NotRunning, installation_at_hand
from services.embedded.launch import with_whole_paths
from services.embedded.marks import HomeRefused
from services.embedded.parts import Part
from services.embedded.platform import platform_parts
from services.embedded.remembered import check_mode, remember, remembered
from services.embedded.settings import EmbeddedSettings
from services.embedded.state import PlatformState, supervisor_lock, write_state

_OWNER = "postgresql://owner:owner-secret@db.example.com:5432/main?sslmode=require"
_GIVEN = {
    "POLYPLANE_MODE": "server",
    "DATABASE_OWNER_URL": _OWNER,
    "DATABASE_REPLICA_URL": "postgresql://polyplane_gateway:replica-secret@replica/polyplane",
    "REDIS_URL": "rediss://redis.example.com/0",
    "REDIS_USERNAME": "gateway",
    "REDIS_PASSWORD_FILE": "/run/secrets/redis",
    "REDIS_CA": "/etc/ca.pem",
    "SERVING_REDIS_URL": "rediss://serving:serving-redis-secret@redis.example.com/0",
    "DATA_REDIS_URL": "rediss://data:data-redis-secret@redis.example.com/0",
    "S3_BUCKET": "files",
    "S3_ACCESS_KEY_ID": "key",
    "S3_SECRET_ACCESS_KEY": "s3-secret",
    "MONGO_URL": "mongodb://polyplane:mongo-secret@127.0.0.1/",
    "CQL_HOSTS": "127.0.0.1",
    "CQL_USERNAME": "polyplane",
    "CQL_PASSWORD": "cql-secret",
    "POLYPLANE_DATA_PASSWORD": "chosen/data:password",
}
_OTHER = {"DATABASE_OWNER_URL": "postgresql://a@b/"}
_SECRET = {
    "owner-secret": set(),
    "replica-secret": {"gateway"},
    "serving-redis-secret": {"serving"},
    "data-redis-secret": {"dagster-code"},
    "/run/secrets/redis": {"gateway"},
    "s3-secret": {"gateway", "dagster-code"},
    "mongo-secret": {"serving", "dagster-code"},
    "cql-secret": {"gateway"},
    "<polyplane_gateway>": {"gateway"},
    "<polyplane_dagster>": {"dagster-code", "dagster-web", "dagster-ui", "dagster-daemon"},
    "chosen%2Fdata%3Apassword": {"dagster-code"},
}


def installation(home: Path, **others: str) -> Installation:
    settings = EmbeddedSettings.of(_GIVEN)
    return Installation(
        home=Home(home),
        ports=settings.ports(),
        secrets={name: f"<{name}>".ljust(32, "x") for name in SECRETS},
        environment={"PATH": "/bin", **_GIVEN, **others},
        host="127.0.0.1",
        tls=False,
        mode=settings.mode,
    )


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, Part]:
    return {part.name: part for part in platform_parts(installation(tmp_path))}


def test_no_server_is_started(parts: dict[str, Part]) -> None:
    assert {"postgres", "redis"}.isdisjoint(parts)
    assert parts["migrations"].needs == ()
    assert {"postgres", "redis"}.isdisjoint(EmbeddedSettings.of(_GIVEN).ports())


@pytest.mark.parametrize("secret", _SECRET)
def test_each_part_gets_the_secrets_that_it_needs_alone(
    parts: dict[str, Part], secret: str
) -> None:
    encoded = secret.replace("<", "%3C").replace(">", "%3E")
    told = {
        name
        for name, part in parts.items()
        if any(form in " ".join(part.environment.values()) for form in (secret, encoded))
    }
    assert told == _SECRET[secret]


def test_the_authorities_of_redis_reach_whoever_asks_redis(parts: dict[str, Part]) -> None:
    told = {name for name, part in parts.items() if "REDIS_CA" in part.environment}
    assert told == {"gateway", "serving", "dagster-code"}


def test_paths_hold_in_the_working_directory_of_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"CQL_PASSWORD_FILE": "secret", "REDIS_CA": "/ca.pem", "OTHER_FILE": "x", "S3_DIR": ""}
    whole = {**given, "CQL_PASSWORD_FILE": str(tmp_path / "secret")}
    assert with_whole_paths(given) == whole


def test_services_log_in_with_their_roles_where_the_owner_does(parts: dict[str, Part]) -> None:
    at = "@db.example.com:5432/polyplane?sslmode=require"
    assert parts["serving"].environment["DATABASE_URL"].endswith(at)
    assert "://polyplane_serving:" in parts["serving"].environment["DATABASE_URL"]
    dagster = parts["dagster-web"].environment["DAGSTER_DATABASE_URL"]
    assert dagster.endswith("@db.example.com:5432/dagster?sslmode=require")


def test_services_go_through_the_pooler_and_dagster_does_not(tmp_path: Path) -> None:
    pooler = "postgresql://pooler:6432/?pooler=transaction"
    servers = installation(tmp_path, POLYPLANE_POOLER_URL=pooler).servers
    gateway = servers.role_url("polyplane_gateway")
    assert gateway.endswith("@pooler:6432/polyplane?pooler=transaction")
    assert "@db.example.com:5432/dagster" in servers.role_url("polyplane_dagster")
    assert servers.owner_url("polyplane") == _OWNER.replace("/main?", "/polyplane?")


def test_databases_are_made_from_the_one_that_the_owners_address_names(tmp_path: Path) -> None:
    assert installation(tmp_path).servers.owner_url("postgres") == _OWNER
    bare = GivenServers.of({"DATABASE_OWNER_URL": "postgres://owner@db"}, {})
    assert bare.owner_url("postgres") == "postgresql://owner@db/postgres"


@pytest.mark.parametrize(
    "url",
    [
        "db.example.com",
        "mysql://owner@db/",
        "postgresql:///x",
        "postgresql://a@b/?pooler=x",
        "postgresql://b/?user=owner",
        "postgresql://a@b/?sslmode=require&password=owner-secret",
        "postgresql://a@b/?passfile=/etc/pass",
    ],
)
def test_an_address_that_is_none_of_postgresql_is_refused(url: str) -> None:
    with pytest.raises(SettingsWrong, match="DATABASE_OWNER_URL"):
        GivenServers.of({"DATABASE_OWNER_URL": url}, {})


def test_a_login_in_the_query_is_refused_in_a_sentence_without_it() -> None:
    for name in ("DATABASE_OWNER_URL", "POLYPLANE_POOLER_URL"):
        with pytest.raises(SettingsWrong, match="before it") as refused:
            GivenServers.of({name: "postgresql://b/?user=a&password=secret-word"}, {})
        assert "secret-word" not in str(refused.value)


def test_commands_use_the_stores_of_the_platform(tmp_path: Path) -> None:
    home = Home(tmp_path)
    remember(home, "server", {**_GIVEN, "HOME": "/root", "SERVING_OPENAI_API_KEY": "other"})
    assert home.servers_file.stat().st_mode & 0o777 == 0o600
    last = remembered(home)
    assert last is not None
    assert last.mode == "server"
    assert {"HOME", "SERVING_OPENAI_API_KEY"}.isdisjoint(last.variables)
    told = installation(tmp_path)
    assert told.settings(ChunkStoreSettings).chunk_store == "mongo"
    with pytest.raises(SettingsWrong, match="REDIS_PASSWORD_FILE"):
        told.settings(RedisSettings)


def test_nothing_that_runs_and_no_servers_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="DATABASE_OWNER_URL"):
        installation_at_hand(Home(tmp_path), {})
    found = installation_at_hand(Home(tmp_path / "absent"), {"DATABASE_OWNER_URL": _OWNER})
    assert found.servers.owner_url("polyplane").startswith("postgresql://owner:owner-secret@db.")


def test_a_server_of_others_never_gets_the_passwords_of_an_embedded_platform(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    home.secrets()
    environment = {"DATABASE_OWNER_URL": _OWNER}
    with pytest.raises(SettingsWrong, match="POLYPLANE_GATEWAY_PASSWORD"):
        installation_at_hand(home, environment).servers.passwords()
    remember(home, "server", environment)
    assert installation_at_hand(home, environment).servers.passwords()


def test_a_command_is_not_run_on_another_server_than_that_of_the_running_platform(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    with supervisor_lock(home.lock_file):
        write_state(home, PlatformState(pid=os.getpid(), started_at=0, ports={"gateway": 1}))
        seen = _in_a_child(home)
    assert seen == ["SettingsWrong", "Installation"]


def test_a_relative_path_names_the_same_file_as_when_the_platform_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path / "home")
    home.create()
    monkeypatch.chdir(tmp_path)
    remember(home, "server", with_whole_paths({"DATABASE_OWNER_URL_FILE": "owner"}))
    with supervisor_lock(home.lock_file):
        write_state(home, PlatformState(pid=os.getpid(), started_at=0, ports={"gateway": 1}))
        seen = _in_a_child(home, {"DATABASE_OWNER_URL_FILE": "owner"})
    assert seen == ["Installation", "Installation"]


def _in_a_child(home: Home, environment: dict[str, str] = _OTHER) -> list[str]:
    """Ask in another process: one's own lock is no lock."""
    code = (
        "from pathlib import Path\n"
        "from services.embedded.home import Home\n"
        "from services.embedded.installation import installation_at_hand\n"
        f"for environment in ({environment!r}, {{}}):\n"
        "    try:\n"
        f"        found = installation_at_hand(Home(Path({str(home.root)!r})), environment)\n"
        "    except ValueError as error:\n"
        "        found = error\n"
        "    print(type(found).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_a_home_is_not_used_in_another_mode(tmp_path: Path) -> None:
    server, embedded = Home(tmp_path / "server"), Home(tmp_path / "embedded")
    server.create()
    remember(server, "server", _GIVEN)
    (embedded.root / "postgres" / "data").mkdir(parents=True)
    with pytest.raises(HomeRefused, match="--mode server"):
        check_mode(server, "embedded")
    with pytest.raises(HomeRefused, match="POLYPLANE_HOME"):
        check_mode(embedded, "server")
    check_mode(server, "server")
    check_mode(embedded, "embedded")
