"""Alembic's entry: one migrator at a time, each revision in a transaction of its own.

The advisory lock is one of the session, so that it outlives the transactions; the connection must
not be a pooler's. Whoever waits for a table's lock lets nobody else at the table meanwhile. So the
wait is short, and `upgrade` tries again.
"""

from alembic import context
from sqlalchemy import create_engine, pool, text

_LOCK = 7071696  # any constant that only this program uses
_OTHER_MIGRATOR_S = 60
_TABLE_S = 2

engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
with engine.connect() as connection:
    connection.execute(text(f"SET lock_timeout = '{_OTHER_MIGRATOR_S}s'"))
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
    connection.execute(text(f"SET lock_timeout = '{_TABLE_S}s'"))
    connection.commit()
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
engine.dispose()
