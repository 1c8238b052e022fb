"""Alembic's entry: runs revisions under an advisory lock, in one transaction."""

from alembic import context
from sqlalchemy import create_engine, pool, text

_LOCK = 7071696  # any constant that only this program uses

engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
with engine.connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        connection.execute(text("SET LOCAL lock_timeout = '30s'"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        context.run_migrations()
    connection.commit()
engine.dispose()
