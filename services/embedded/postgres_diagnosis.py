"""What a given PostgreSQL is, and what it lacks for the platform."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import psycopg2  # type: ignore[import-untyped]

from planes.shared.settings import SettingsWrong
from services.embedded.diagnosis import Finding
from services.embedded.installation import Installation
from services.embedded.postgres import DAGSTER_ROLE, PLATFORM_DATABASE, SERVICE_ROLES
from services.embedded.schema import logs_in
from services.embedded.servers import TAKE_OVER, Servers

LEAST_MAJOR = 17
"""The first whose databases fold words by rules of their own, `LOCALE_PROVIDER builtin`."""

_SUBJECT = "PostgreSQL"
_CONNECT_S = 5.0
_STATEMENT_S = 10.0
_GONE_S = 15.0  # until the server has noticed that our own last processes are gone
_LOOK_S = 0.5

_OWNER = """
SELECT rolsuper AS is_superuser, rolcreaterole AND rolcreatedb AS may_create,
       (SELECT bool_or(trusted OR rolsuper) FROM pg_available_extension_versions
        WHERE name = 'vector') AS may_extend
FROM pg_roles WHERE rolname = current_user
"""
_HAS_VECTOR = "SELECT count(*) FROM pg_extension WHERE extname = 'vector'"
_LOGINS = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname = ANY ($1)"
_CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
_END = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = ANY ($1)"
_NOT_JOINED = """
SELECT quote_ident(rolname) AS name FROM pg_roles
WHERE rolname = ANY ($1) AND NOT pg_has_role(oid, 'USAGE')
"""


async def diagnose_postgres(installation: Installation, *, is_starting: bool) -> Finding:
    """Look at the server; what belongs to a take-over is done by `up` alone.

    Args:
        installation: Whose server.
        is_starting: Nothing of this platform runs, so whatever is connected is another one's.
    """
    url = installation.servers.owner_url("postgres")
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S, command_timeout=_STATEMENT_S)
    except (asyncpg.PostgresError, asyncpg.InternalClientError, OSError, ValueError) as error:
        return _not_connected(url, error)
    try:
        ours = installation.servers.owner_url(PLATFORM_DATABASE)
        lack = await _lack(connection, ours) or await _other_platform(
            connection, installation, is_starting=is_starting
        )
        version = connection.get_server_version()
    except asyncpg.InsufficientPrivilegeError as error:
        return _not_allowed(error)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        return _not_connected(url, error)
    finally:
        connection.terminate()
    return lack or Finding(_SUBJECT, "good", f"{version.major}.{version.minor} at {place(url)}")


def place(url: str) -> str:
    """Return host and port of an address, without its login."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _not_connected(url: str, error: Exception) -> Finding:
    """Tell a server that does not let us in from one that is away."""
    where, who = place(url), urlsplit(url).username
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        found = f"{where} does not let {who} in: {error}"
        return Finding(_SUBJECT, "bad", found, "Correct user and password in DATABASE_OWNER_URL.")
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        remedy = "End DATABASE_OWNER_URL with the name of a database that is there."
        return Finding(_SUBJECT, "bad", f"{where}: {error}", remedy)
    found = f"{where} does not answer: {error or type(error).__name__}"
    remedy = "Start it, or correct DATABASE_OWNER_URL."
    return Finding(_SUBJECT, "bad", found, remedy, is_away=True)


def _not_allowed(error: Exception) -> Finding:
    """Tell of an owner who did not make the platform that is there."""
    found = f"the user of DATABASE_OWNER_URL may not do what is needed: {error}"
    remedy = (
        f"As a superuser: GRANT {', '.join((*SERVICE_ROLES, DAGSTER_ROLE))} TO that user WITH "
        f"ADMIN OPTION; and ALTER DATABASE {PLATFORM_DATABASE} OWNER TO that user."
    )
    return Finding(_SUBJECT, "bad", found, remedy)


async def _lack(connection: "asyncpg.Connection[asyncpg.Record]", url: str) -> Finding | None:
    """Tell what the server lacks; `url` is that of our database, which may not be there yet."""
    major = connection.get_server_version().major
    if major < LEAST_MAJOR:
        remedy = f"Use PostgreSQL {LEAST_MAJOR} or newer."
        return Finding(_SUBJECT, "bad", f"it is PostgreSQL {major}, which is too old", remedy)
    owner = await connection.fetchrow(_OWNER)
    assert owner is not None  # noqa: S101 (it is ourselves)
    if not (owner["is_superuser"] or owner["may_create"]):
        found = "the user of DATABASE_OWNER_URL may not create roles and databases"
        remedy = "As a superuser: ALTER ROLE its name CREATEROLE CREATEDB."
        return Finding(_SUBJECT, "bad", found, remedy)
    if owner["may_extend"] is None:
        remedy = "Install pgvector 0.8 or newer on the server (package postgresql-18-pgvector)."
        return Finding(_SUBJECT, "bad", "it has no extension `vector`", remedy)
    if not owner["may_extend"] and not await _has_vector(url):
        remedy = (
            "As a superuser: CREATE DATABASE polyplane OWNER that user TEMPLATE template0 ENCODING "
            "'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'; and in it CREATE EXTENSION "
            "vector."
        )
        found = "the user of DATABASE_OWNER_URL may not create the extension `vector`"
        return Finding(_SUBJECT, "bad", found, remedy)
    return None


async def _has_vector(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url, timeout=_CONNECT_S, command_timeout=_STATEMENT_S)
    except asyncpg.InvalidCatalogNameError:
        return False
    try:
        return bool(await connection.fetchval(_HAS_VECTOR))
    finally:
        connection.terminate()


async def _other_platform(
    connection: "asyncpg.Connection[asyncpg.Record]",
    installation: Installation,
    *,
    is_starting: bool,
) -> Finding | None:
    """Look for a platform of another home: passwords of the roles, and Dagster's connections."""
    try:
        passwords = installation.servers.passwords()
    except SettingsWrong:
        if is_starting:
            raise
        return None  # `up` makes them, and looks then
    takes_over = is_starting and installation.environment.get(TAKE_OVER) == "true"
    if takes_over:
        await _end_connections(connection, list(passwords))
    elif strange := await _strange_roles(connection, installation.servers):
        return Finding(
            _SUBJECT,
            "bad",
            f"another platform has it: {', '.join(strange)} log in with other passwords than ours",
            "Give each platform a server of its own, or set the POLYPLANE_…_PASSWORD of these "
            "roles. If the other one is gone: `polyplane up --mode server --take-over`.",
        )
    if is_starting and (count := await _connected(connection)):
        return Finding(
            _SUBJECT,
            "bad",
            f"another platform runs on it: {count} connections of {DAGSTER_ROLE}",
            "Stop it, with `polyplane down` where it runs. If its machine is gone: `polyplane up "
            "--mode server --take-over`.",
        )
    return None


async def _end_connections(
    connection: "asyncpg.Connection[asyncpg.Record]", roles: list[str]
) -> None:
    """End the connections of roles; an owner who is no superuser has to be a member of them."""
    for row in await connection.fetch(_NOT_JOINED, roles):
        await connection.execute(f"GRANT {row['name']} TO CURRENT_USER")
    await connection.fetch(_END, roles)


async def _strange_roles(
    connection: "asyncpg.Connection[asyncpg.Record]", servers: Servers
) -> list[str]:
    """Name the roles that may log in, but not with our passwords."""
    passwords = servers.passwords()
    url = servers.owner_url("postgres")
    there = [row["rolname"] for row in await connection.fetch(_LOGINS, list(passwords))]
    try:
        return [
            role
            for role in there
            if not await asyncio.to_thread(logs_in, url, role, passwords[role])
        ]
    except psycopg2.OperationalError as error:
        raise OSError(str(error).strip()) from error


async def _connected(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Count Dagster's connections, once those of our own last processes have had time to end."""
    end = asyncio.get_running_loop().time() + _GONE_S
    while count := int(await connection.fetchval(_CONNECTED, DAGSTER_ROLE)):
        if asyncio.get_running_loop().time() > end:
            return count
        await asyncio.sleep(_LOOK_S)
    return 0
