"""Databases, roles and migrations of a PostgreSQL server."""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, create_engine, pool, text
from sqlalchemy.exc import DBAPIError

from planes.shared.stores import migrations
from services.embedded.postgres import DAGSTER_DATABASE, DAGSTER_ROLE, PLATFORM_DATABASE


class LoginNotAllowed(RuntimeError):
    """The server refused to let a role log in."""


def bootstrap(owner_url: Callable[[str], str], passwords: Mapping[str, str]) -> None:
    """Make the databases, bring the schema to the newest revision, let the roles log in.

    Repeatable: what exists stays, passwords become the given ones.

    Args:
        owner_url: Returns the address of a database of a running server, for its owner.
        passwords: By role: the three service roles and `polyplane_dagster`.
    """
    with owner_connection(owner_url("postgres")) as connection:
        create_role(connection, DAGSTER_ROLE)
        create_database(connection, PLATFORM_DATABASE)
        create_database(connection, DAGSTER_DATABASE, owner=DAGSTER_ROLE)
        # Each role may connect to its own database alone.
        connection.execute(text("REVOKE CONNECT ON DATABASE dagster FROM PUBLIC"))
    migrations.upgrade(owner_url(PLATFORM_DATABASE))
    with owner_connection(owner_url(PLATFORM_DATABASE)) as connection:
        connection.execute(text("REVOKE CONNECT ON DATABASE polyplane FROM PUBLIC"))
        for role, password in passwords.items():
            allow_login(connection, role, password)
            if role != DAGSTER_ROLE:
                _execute(connection, "GRANT CONNECT ON DATABASE polyplane TO %I", role)


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
    """Make a database, unless it exists."""
    query = text("SELECT 1 FROM pg_database WHERE datname = :name")
    if connection.execute(query, {"name": name}).scalar() is None:
        _execute(connection, "CREATE DATABASE %I", name)
        if owner is not None:
            _execute(connection, "ALTER DATABASE %I OWNER TO %I", name, owner)


def allow_login(connection: Connection, role: str, password: str) -> None:
    """Let a role log in with a password.

    Raises:
        LoginNotAllowed: The server refused; the error does not hold the statement.
    """
    # Neither the server's log nor our own may show the statement, which holds the password.
    connection.execute(text("SET log_min_error_statement = panic"))
    try:
        _execute(connection, "ALTER ROLE %I LOGIN PASSWORD %L", role, password)
    except DBAPIError as error:
        raise LoginNotAllowed(f"{role}: {type(error.orig).__name__}") from None


def _execute(connection: Connection, statement: str, *names: str) -> None:
    # Identifiers cannot be parameters: the server quotes them.
    arguments = {f"a{i}": name for i, name in enumerate(names)}
    placeholders = ", ".join(f"CAST(:{key} AS text)" for key in arguments)
    query = text(f"SELECT format('{statement}', {placeholders})")
    connection.exec_driver_sql(str(connection.execute(query, arguments).scalar_one()))
