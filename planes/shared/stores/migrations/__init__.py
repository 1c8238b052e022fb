"""The one schema of PostgreSQL, as Alembic revisions whose SQL stands beside them."""

from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    url = urlsplit(database_url)._replace(scheme="postgresql+psycopg2")
    config.attributes["url"] = urlunsplit(url)
    return config


def upgrade(database_url: str) -> None:
    """Bring the schema to the newest revision, one migrator at a time (advisory lock).

    Args:
        database_url: Of a role that owns the schema and may create roles.
    """
    command.upgrade(_config(database_url), "head")


def head_revision() -> str:
    """Return the revision that this code needs."""
    head = ScriptDirectory.from_config(_config("postgresql://")).get_current_head()
    if head is None:
        raise RuntimeError("there are no migrations in this distribution")
    return head
