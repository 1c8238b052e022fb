"""Alembic's entry: one migrator at a time, each revision in a transaction of its own.

The advisory lock is one of the session, so that it outlives the transactions; the connection must
not be a pooler's. Whoever waits for a table's lock lets nobody else at the table meanwhile. So the
wait is short, and `upgrade` tries again.
"""

import time

from alembic import context
from sqlalchemy import Connection, create_engine, pool, text

from planes.shared.stores.migrations import MigrationBlocked

_LOCK = 7071696  # any constant that only this program uses
_OTHER_MIGRATOR_S = 60
_TABLE_S = 2
_LOOK_S = 0.2


def _take_turn(connection: Connection) -> None:
    """Wait for other migrators, between statements.

    A statement that waits holds a snapshot, and a `CREATE INDEX CONCURRENTLY` of theirs would wait
    for that.

    Raises:
        MigrationBlocked: Another takes longer than a minute.
    """
    end = time.monotonic() + _OTHER_MIGRATOR_S
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}):
        connection.rollback()
        if time.monotonic() > end:
            raise MigrationBlocked("Another migration of this database takes longer than a minute.")
        time.sleep(_LOOK_S)
    connection.commit()


engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
with engine.connect() as connection:
    _take_turn(connection)
    connection.execute(text(f"SET lock_timeout = '{_TABLE_S}s'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
