"""Migrations after the sixth are survived by the version before: they only add (docs/stores.md)."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

_VERSIONS = Path(__file__).parents[2] / "planes" / "shared" / "stores" / "migrations" / "versions"
_LAST_FREE = "0006"
_MARK = re.compile(r"--\s*contract:\s*\S+")

_BREAKING = {
    "drops what old code uses": (
        r"\bDROP\s+(?!DEFAULT\b|NOT\s+NULL\b|EXPRESSION\b|IDENTITY\b|INDEX\s+CONCURRENTLY\b)"
    ),
    "renames what old code uses": r"\bRENAME\b",
    "changes a column's type": r"\bALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE\b",
    "demands what old code does not write": r"\bSET\s+NOT\s+NULL\b",
    "takes a default that old code relies on": r"\bDROP\s+DEFAULT\b",
    "takes rights that old code uses": r"\bREVOKE\b(?!.*\bFROM\s+(PUBLIC|polyplane_definer)\b)",
    "checks all rows under a lock": (
        r"\bADD\s+(CONSTRAINT|CHECK|UNIQUE|PRIMARY\s+KEY|FOREIGN\s+KEY|EXCLUDE)\b"
        r"(?!.*\bNOT\s+VALID\b)"
    ),
    "adds a column that old code leaves out": (
        r"\bADD\s+COLUMN\b(?=[^,]*\bNOT\s+NULL\b)(?![^,]*\b(DEFAULT|GENERATED)\b)"
    ),
}
_OPERATIONS = re.compile(r"drop_|rename_|alter_column|create_(check|unique|foreign)|create_index")
_CREATED = re.compile(r"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?([\w.]+)", re.IGNORECASE)
_INDEX = re.compile(r"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?!CONCURRENTLY)[\w\s]*?\bON\s+(\w+)", re.I)


def statements(sql: str) -> Iterator[tuple[str, bool]]:
    """Yield each statement without comments and bodies of functions, and whether it is marked.

    What `DO` does is done now, and so stays.
    """
    sql = re.sub(r"\bDO\s+\$(\w*)\$(.*?)\$\1\$", r"\2", sql, flags=re.DOTALL | re.I)
    bodies = re.sub(r"\$(\w*)\$.*?\$\1\$", "''", sql, flags=re.DOTALL)
    bodies = re.sub(r"\bBEGIN\s+ATOMIC\b.*?\bEND\s*;", ";", bodies, flags=re.DOTALL | re.I)
    for statement in bodies.split(";"):
        bare = re.sub(r"--[^\n]*", "", statement)
        yield " ".join(bare.split()), bool(_MARK.search(statement))


def flaws(sql: str) -> list[str]:
    """Return what the version before would not survive, statement by statement."""
    created = {name.lower() for name in _CREATED.findall(sql)}
    found = []
    for statement, is_marked in statements(sql):
        reasons = [
            reason for reason, pattern in _BREAKING.items() if re.search(pattern, statement, re.I)
        ]
        index = _INDEX.search(statement)
        if index and index.group(1).lower() not in created:
            reasons.append("builds an index while writers wait: CONCURRENTLY")
        if reasons and not is_marked:
            found.append(f"{', '.join(reasons)}: {statement[:100]}")
    return found


def flaws_of_revision(source: str) -> list[str]:
    """Return the same of a revision in Python: of its SQL, and of what it asks Alembic for."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += flaws(node.value)
        if isinstance(node, ast.Attribute) and _OPERATIONS.match(node.attr):
            found.append(f"write it as SQL, which is judged: {node.attr}")
    return found


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users DROP COLUMN email",
        "ALTER TABLE users DROP email",
        "DROP INDEX users_email",
        "DROP POLICY own ON users",
        "DROP TRIGGER note ON users",
        "ALTER TABLE users ADD CHECK (age > 0)",
        "ALTER TABLE users ADD UNIQUE (email)",
        "DROP TABLE users",
        "ALTER TABLE users RENAME COLUMN email TO mail",
        "ALTER TABLE users ALTER COLUMN age TYPE bigint",
        "ALTER TABLE users ALTER email SET NOT NULL",
        "ALTER TABLE users ADD COLUMN age integer NOT NULL",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0)",
        "REVOKE SELECT ON users FROM polyplane_gateway",
        "CREATE INDEX i ON users (email)",
        "CREATE UNIQUE INDEX IF NOT EXISTS i ON users (email)",
    ],
)
def test_statements_that_old_code_does_not_survive_are_found(sql: str) -> None:
    assert flaws(sql)
    assert not flaws(f"-- contract: 1.2 wrote it last\n{sql};")


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE users ALTER email DROP NOT NULL",
        "DROP INDEX CONCURRENTLY IF EXISTS i",
        "DO $$ BEGIN UPDATE users SET age = 1; END $$",
        "ALTER TABLE users ADD COLUMN age integer",
        "ALTER TABLE users ADD COLUMN age integer NOT NULL DEFAULT 0",
        "ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0) NOT VALID",
        "CREATE TABLE pets (name text NOT NULL); CREATE INDEX i ON pets (name)",
        "CREATE INDEX CONCURRENTLY i ON users (email)",
        "CREATE OR REPLACE FUNCTION f() RETURNS void AS $$ DROP TABLE t; $$ LANGUAGE sql",
        "REVOKE ALL ON FUNCTION f FROM PUBLIC",
        "-- we never DROP TABLE users",
    ],
)
def test_statements_that_only_add_are_let_through(sql: str) -> None:
    assert not flaws(sql)


def test_what_a_block_does_at_once_is_judged() -> None:
    assert flaws("DO $$ BEGIN EXECUTE 'DROP TABLE users'; END $$;")


def test_revisions_in_python_are_judged() -> None:
    assert flaws_of_revision('op.execute("ALTER TABLE users DROP COLUMN email")')
    assert flaws_of_revision('cursor.execute(f"DROP TABLE {name}")')
    assert flaws_of_revision('op.drop_column("users", "email")')
    assert flaws_of_revision('op.create_index("i", "users", ["email"])')
    assert not flaws_of_revision('op.execute("CREATE INDEX CONCURRENTLY i ON users (email)")')


def test_new_migrations_only_add() -> None:
    new = [path for path in sorted(_VERSIONS.glob("0*.*")) if path.name[:4] > _LAST_FREE]
    texts = {path.name: path.read_text("utf-8") for path in new}
    judges = {".sql": flaws, ".py": flaws_of_revision}
    found = {name: judges[Path(name).suffix](text) for name, text in texts.items()}
    assert not {name: each for name, each in found.items() if each}
