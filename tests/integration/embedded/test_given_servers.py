"""Real servers that are given to a platform: what is looked at, and what is made there."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg2
import pytest
import redis
from sqlalchemy import text
from typer.testing import CliRunner

from services.cli.main import app
from services.embedded import postgres_diagnosis
from services.embedded.diagnosis import Finding
from services.embedded.home import Home
from services.embedded.installation import Installation
from services.embedded.postgres import Postgres
from services.embedded.redis import Redis
from services.embedded.schema import (
    DatabaseRefused,
    allow_login,
    bootstrap,
    create_database,
    logs_in,
    owner_connection,
)
from services.embedded.server_diagnosis import diagnose_servers
from services.embedded.servers import TAKE_OVER
from tests.servers.given import PASSWORD, given_postgres

pytestmark = pytest.mark.integration

_ODD_PASSWORD = "own:er@pass/word"


@pytest.fixture(scope="module")
def given(server_folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL of others, on which nothing was made yet."""
    with given_postgres(server_folder, "given") as postgres:
        yield postgres


@pytest.fixture
def environment(given: Postgres, redis_server: Redis, tmp_path: Path) -> dict[str, str]:
    objects = tmp_path / "objects"
    objects.mkdir()
    return {
        "DATABASE_OWNER_URL": given.url("postgres"),
        "REDIS_URL": redis_server.url(),
        "SERVING_REDIS_URL": redis_server.serving_url(),
        "DATA_REDIS_URL": redis_server.data_url(),
        "OBJECTS_DIR": str(objects),
    }


def platform(folder: Path, environment: dict[str, str], **others: str) -> Installation:
    """Return a platform that is about to start in a folder of its own."""
    home = Home(folder)
    home.create()
    return Installation(
        home=home,
        ports={},
        secrets=home.secrets(),
        environment={**environment, **others},
        host="127.0.0.1",
        tls=False,
        mode="server",
    )


def flaws(installation: Installation, *, is_starting: bool = True) -> list[Finding]:
    found = diagnose_servers(installation, is_starting=is_starting)
    return [finding for finding in found if finding.verdict != "good"]


def test_what_is_wrong_is_told_with_its_remedy(environment: dict[str, str], tmp_path: Path) -> None:
    url = environment["DATABASE_OWNER_URL"]
    cases = [
        ("DATABASE_OWNER_URL", url.replace("word@", "nope@"), "does not let", False),
        ("DATABASE_OWNER_URL", url.replace("/postgres", "/absent"), "does not exist", False),
        ("DATABASE_OWNER_URL", "postgresql://a@127.0.0.1:1/", "does not answer", True),
        ("REDIS_URL", "redis://127.0.0.1:1/0", "does not answer", True),
        ("REDIS_URL", environment["REDIS_URL"].replace("//:", "//who:"), "not let us in", False),
        ("OBJECTS_DIR", "/proc/absent", "no folder", False),
        ("DATA_REDIS_URL", "", "SERVING_REDIS_URL alone", False),
    ]
    for variable, value, found, is_away in cases:
        kept = {name: each for name, each in environment.items() if name != variable}
        named = {variable: value} if value else {}
        (flaw,) = flaws(platform(tmp_path / "home", kept, **named))
        assert found in flaw.found, flaw
        assert variable in flaw.remedy or variable in ("OBJECTS_DIR", "DATA_REDIS_URL"), flaw
        assert flaw.is_away == is_away
        assert PASSWORD not in flaw.found + flaw.remedy


def test_a_redis_that_drops_keys_is_refused(
    environment: dict[str, str], redis_server: Redis, tmp_path: Path
) -> None:
    with redis.Redis.from_url(redis_server.url()) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        try:
            (flaw,) = flaws(platform(tmp_path / "home", environment))
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert flaw.verdict == "bad"
    assert "noeviction" in flaw.remedy


def test_an_owner_needs_rights_and_no_superuser(
    given: Postgres, environment: dict[str, str], tmp_path: Path
) -> None:
    with owner_connection(environment["DATABASE_OWNER_URL"]) as connection:
        connection.execute(text("CREATE ROLE plain"))
        allow_login(connection, "plain", _ODD_PASSWORD)
    password = quote(_ODD_PASSWORD, safe="")
    plain = {"DATABASE_OWNER_URL": given.url("postgres", role="plain", password=password)}
    one = platform(tmp_path / "one", environment, **plain)
    assert "CREATEROLE CREATEDB" in flaws(one)[0].remedy
    with owner_connection(environment["DATABASE_OWNER_URL"]) as connection:
        connection.execute(text("ALTER ROLE plain CREATEROLE CREATEDB"))
    assert "CREATE EXTENSION" in flaws(one)[0].remedy
    with owner_connection(plain["DATABASE_OWNER_URL"]) as connection:
        create_database(connection, "polyplane")
    url = environment["DATABASE_OWNER_URL"].replace("/postgres", "/polyplane")
    with owner_connection(url) as connection:
        connection.execute(text("CREATE EXTENSION vector"))
    assert flaws(one) == []
    for _ in range(2):
        bootstrap(one.servers.owner_url, one.servers.passwords())
    for role, password in one.servers.passwords().items():
        assert logs_in(url, role, password)
        assert not logs_in(url, role, "wrong")
    with closing(psycopg2.connect(one.servers.role_url("polyplane_dagster"))) as dagster:
        _another_platform_is_refused(dagster, {**environment, **plain}, tmp_path)


def _another_platform_is_refused(
    dagster: "psycopg2.extensions.connection", environment: dict[str, str], tmp_path: Path
) -> None:
    """The servers have one platform, whose Dagster is connected; another home wants them.

    The owner is no superuser, and not yet a member of the roles.
    """
    other = platform(tmp_path / "other", environment)
    assert "another platform has it" in flaws(other, is_starting=False)[0].found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres_diagnosis, "_GONE_S", 0.0)
        same = platform(tmp_path / "one", environment)
        assert "another platform runs on it" in flaws(same)[0].found
        assert flaws(same, is_starting=False) == []
    assert flaws(platform(tmp_path / "other", environment, **{TAKE_OVER: "true"})) == []
    with pytest.raises(psycopg2.OperationalError):
        dagster.cursor().execute("SELECT 1")
    bootstrap(other.servers.owner_url, other.servers.passwords())
    assert flaws(other) == []
    stranger = _stranger(environment["DATABASE_OWNER_URL"])
    third = platform(tmp_path / "third", {**environment, **stranger}, **{TAKE_OVER: "true"})
    (flaw,) = flaws(third)
    assert "may not do what is needed" in flaw.found
    assert "WITH ADMIN OPTION" in flaw.remedy
    assert not flaw.is_away


def _stranger(url: str) -> dict[str, str]:
    """Make an owner who may create roles, and did not make these."""
    with owner_connection(url) as connection:
        connection.execute(text("SET createrole_self_grant = ''"))
        connection.execute(text("CREATE ROLE stranger CREATEROLE CREATEDB"))
        allow_login(connection, "stranger", PASSWORD)
    return {"DATABASE_OWNER_URL": f"postgresql://stranger:{PASSWORD}@{url.partition('@')[2]}"}


def test_databases_of_others_are_left_alone(given: Postgres) -> None:
    def url(database: str) -> str:
        return given.url("theirs" if database == "polyplane" else database)

    with owner_connection(url("postgres")) as connection:
        create_database(connection, "theirs")
        with pytest.raises(DatabaseRefused, match="nothing was touched"):
            create_database(connection, "theirs", owner="polyplane_dagster")
    with owner_connection(url("polyplane")) as connection:
        connection.execute(text("CREATE TABLE invoices ()"))
    with pytest.raises(DatabaseRefused, match="not Polyplane's"):
        bootstrap(url, {})


def test_the_servers_log_has_verifiers_and_no_passwords(given: Postgres) -> None:
    with owner_connection(given.url("postgres")) as connection:
        connection.execute(text("CREATE ROLE somebody"))
        allow_login(connection, "somebody", "their-password")
        query = text("SELECT rolpassword FROM pg_authid WHERE rolname = 'somebody'")
        assert str(connection.execute(query).scalar()).startswith("SCRAM-SHA-256$")
    assert logs_in(given.url("postgres"), "somebody", "their-password")


def test_up_says_what_is_missing_or_wrong_and_leaves_nothing(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("POLYPLANE_HOME", str(home))
    monkeypatch.setenv("DATABASE_OWNER_URL", "postgresql://who@127.0.0.1:1/")
    answer = CliRunner().invoke(app, ["up", "--mode", "server"])
    assert answer.exit_code == 1
    for name in ("REDIS_URL: ", "S3_BUCKET or OBJECTS_DIR: "):
        assert name in answer.output
    wrong = environment["DATABASE_OWNER_URL"].replace("word@", "nope@")
    for name, value in {**environment, "DATABASE_OWNER_URL": wrong}.items():
        monkeypatch.setenv(name, value)
    answer = CliRunner().invoke(app, ["up", "--mode", "server"])
    assert answer.exit_code == 1
    assert "Correct user and password in DATABASE_OWNER_URL" in " ".join(answer.output.split())
    assert not (home / "servers.json").exists()
    assert list((home / "redis").iterdir()) == []
