"""Databases, roles and migrations of a PostgreSQL server."""

from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg2  # type: ignore[import-untyped]
from psycopg2.extensions import encrypt_password  # type: ignore[import-untyped]
from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from planes.shared.stores import migrations
from planes.shared.stores.postgres import RestoreUnfinished
from services.embedded.postgres import DAGSTER_DATABASE, DAGSTER_ROLE, PLATFORM_DATABASE

# Words are folded alike on every server; the locale of a given one may know ASCII alone.
_LOCALE = "TEMPLATE template0 ENCODING UTF8 LOCALE_PROVIDER builtin BUILTIN_LOCALE ''C.UTF-8''"
_NOT_LET_IN = ("password authentication failed", "is not permitted to log in")
_TABLES_OF_OTHERS = """
SELECT to_regclass('public.alembic_version') IS NULL AND EXISTS (
    SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
)
"""
_IS_HALF_RESTORED = "SELECT to_regclass('public.unfinished_restore') IS NOT NULL"


class LoginNotAllowed(RuntimeError):
    """The server refused to let a role log in."""


class DatabaseRefused(RuntimeError):
    """A database of our name is somebody else's; nothing was touched."""


def bootstrap(
    owner_url: Callable[[str], str],
    passwords: Mapping[str, str],
    *,
    revision: str = "head",
    is_restore: bool = False,
) -> None:
    """Make the databases, bring the schema to a revision, let the roles log in.

    Repeatable: what exists stays, passwords become the given ones. The owner need not be a
    superuser: `CREATEROLE` and `CREATEDB` are enough where `vector` is a trusted extension.

    Args:
        owner_url: Returns the address of a database of a running server, for its owner.
        passwords: By role: the three service roles and `polyplane_dagster`.
        revision: The newest, unless it is another one.
        is_restore: A backup goes into the database, which an attempt before may have begun.

    Raises:
        RestoreUnfinished: A restore was begun and not finished, and this is none.
        DatabaseRefused: A database `polyplane` or `dagster` is there that is not ours.
        LoginNotAllowed: The owner may not set a password.
        MigrationBlocked: Others hold locks.
    """
    with owner_connection(owner_url("postgres")) as connection:
        create_role(connection, DAGSTER_ROLE)
        create_database(connection, PLATFORM_DATABASE)
        create_database(connection, DAGSTER_DATABASE, owner=DAGSTER_ROLE)
        # Each role may connect to its own database alone.
        connection.execute(text("REVOKE CONNECT ON DATABASE dagster FROM PUBLIC"))
    _require_own_tables(owner_url(PLATFORM_DATABASE))
    if not is_restore:
        _require_finished(owner_url(PLATFORM_DATABASE))
    migrations.upgrade(owner_url(PLATFORM_DATABASE), revision=revision)
    with owner_connection(owner_url(PLATFORM_DATABASE)) as connection:
        connection.execute(text("REVOKE CONNECT ON DATABASE polyplane FROM PUBLIC"))
        for role, password in passwords.items():
            if not logs_in(owner_url("postgres"), role, password):
                allow_login(connection, role, password)
            if role != DAGSTER_ROLE:
                _execute(connection, "GRANT CONNECT ON DATABASE polyplane TO %I", role)


def logs_in(url: str, role: str, password: str) -> bool:
    """Tell whether a role gets into a server with a password, be its rights as they are.

    Args:
        url: Of a database of that server, for anybody.
        role: Its name.
        password: Not yet encoded for addresses.

    Raises:
        psycopg2.OperationalError: The server does not answer.
    """
    address = urlsplit(url)
    login = f"{role}:{quote(password, safe='')}@{address.netloc.rpartition('@')[2]}"
    try:
        psycopg2.connect(urlunsplit(address._replace(netloc=login)), connect_timeout=5).close()
    except psycopg2.OperationalError as error:
        # The driver has no code for what happens while it connects; a database that is closed to
        # the role is named after its password was right.
        if "permission denied for database" in str(error):
            return True
        if any(words in str(error) for words in _NOT_LET_IN):
            return False
        raise
    return True


def owner_connection(url: str) -> Connection:
    """Connect as the owner; every statement commits on its own."""
    address = url.replace("postgresql://", "postgresql+psycopg2://", 1)
    engine = create_engine(address, isolation_level="AUTOCOMMIT", poolclass=pool.NullPool)
    return engine.connect()


def create_role(connection: Connection, role: str) -> None:
    """Make a role that cannot log in yet, unless it exists."""
    query = text("SELECT 1 FROM pg_roles WHERE rolname = :role")
    if connection.execute(query, {"role": role}).scalar() is None:
        _execute(connection, "CREATE ROLE %I NOLOGIN", role)


def create_database(connection: Connection, name: str, *, owner: str | None = None) -> None:
    """Make a database, unless it exists.

    Raises:
        DatabaseRefused: It exists and is not the owner's, where one is named.
    """
    query = text("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = :name")
    found = connection.execute(query, {"name": name}).scalar()
    if found is not None and owner not in (None, found):
        raise DatabaseRefused(
            f"The database {name} is {found}'s and not {owner}'s: something else uses it. Rename "
            "it, or use another PostgreSQL server; nothing was touched."
        )
    if found is None:
        me = connection.execute(text("SELECT current_user")).scalar_one()
        if owner is not None:
            _join(connection, owner)
        _execute(connection, f"CREATE DATABASE %I OWNER %I {_LOCALE}", name, owner or me)


def allow_login(connection: Connection, role: str, password: str) -> None:
    """Let a role log in with a password.

    Raises:
        LoginNotAllowed: The server refused; the error does not hold the statement.
    """
    # A verifier: neither the server's log nor our own may show the password.
    verifier = encrypt_password(
        password, role, scope=connection.connection.driver_connection, algorithm="scram-sha-256"
    )
    try:
        _execute(connection, "ALTER ROLE %I LOGIN PASSWORD %L", role, verifier)
    except DBAPIError as error:
        raise LoginNotAllowed(f"{role}: {type(error.orig).__name__}") from None


def _join(connection: Connection, role: str) -> None:
    """Let the owner act for a role, where it may not yet; a superuser may."""
    query = text("SELECT pg_has_role(:role, 'SET')")
    if not connection.execute(query, {"role": role}).scalar():
        _execute(connection, "GRANT %I TO CURRENT_USER", role)


def _require_own_tables(url: str) -> None:
    with owner_connection(url) as connection:
        if connection.execute(text(_TABLES_OF_OTHERS)).scalar():
            raise DatabaseRefused(
                f"The database {PLATFORM_DATABASE} holds tables that are not Polyplane's. Rename "
                "it, or use another PostgreSQL server; nothing was touched."
            )


def _require_finished(url: str) -> None:
    with owner_connection(url) as connection:
        if connection.execute(text(_IS_HALF_RESTORED)).scalar():
            raise RestoreUnfinished


def _execute(connection: Connection, statement: str, *names: str) -> None:
    # Identifiers cannot be parameters: the server quotes them.
    arguments = {f"a{i}": name for i, name in enumerate(names)}
    placeholders = ", ".join(f"CAST(:{key} AS text)" for key in arguments)
    query = text(f"SELECT format('{statement}', {placeholders})")
    connection.exec_driver_sql(str(connection.execute(query, arguments).scalar_one()))
