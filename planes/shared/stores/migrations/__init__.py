"""The one schema of PostgreSQL, as Alembic revisions whose SQL stands beside them."""

import random
import time
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg2  # type: ignore[import-untyped]
import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.exc import DBAPIError

_BLOCKED = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
_LONGEST_PAUSE_S = 20.0
_FIND_WHO = (
    "The schema was not changed: other transactions hold locks on its tables, or another migration "
    "takes long. Find them with SELECT pid, now() - xact_start AS age, query FROM pg_stat_activity "
    "WHERE xact_start < now() - interval '2 s'; then migrate again."
)
_log = structlog.get_logger(__name__)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    if "pooler=" in urlsplit(database_url).query:
        raise ValueError("migrations need an address of PostgreSQL itself, not of a pooler")
    url = urlsplit(database_url)._replace(scheme="postgresql+psycopg2")
    config.attributes["url"] = urlunsplit(url)
    return config


class MigrationBlocked(RuntimeError):
    """Somebody held a lock for too long; what was not finished is as it was before."""


def upgrade(database_url: str, *, revision: str = "head", attempts: int = 10) -> None:
    """Bring the schema to a revision, one migrator at a time.

    A table that is in use is waited for two seconds, and then left to others for longer and longer
    before the next attempt: at most about two minutes with ten attempts.

    Args:
        database_url: Of a role that owns the schema and may create roles; no pooler's.
        revision: The newest, unless it is another one.
        attempts: 1 or more.

    Raises:
        MigrationBlocked: It says how to find who holds the lock; or another migrator took longer
            than a minute.
        ValueError: The address is a pooler's.
    """
    for attempt in range(attempts):
        if attempt:
            pause_s = min(0.5 * 2**attempt, _LONGEST_PAUSE_S)
            time.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 (jitter)
        try:
            command.upgrade(_config(database_url), revision)
        except (psycopg2.Error, DBAPIError) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            if getattr(cause, "pgcode", None) not in _BLOCKED:
                raise
            _log.warning("a migration waits for a lock", attempt=attempt + 1)
        else:
            return
    raise MigrationBlocked(_FIND_WHO)


def is_known(revision: str) -> bool:
    """Return whether this code knows a revision; a newer version's it does not."""
    scripts = ScriptDirectory.from_config(_config("postgresql://"))
    return revision in {script.revision for script in scripts.walk_revisions()}


def head_revision() -> str:
    """Return the revision that this code needs."""
    head = ScriptDirectory.from_config(_config("postgresql://")).get_current_head()
    if head is None:
        raise RuntimeError("there are no migrations in this distribution")
    return head
