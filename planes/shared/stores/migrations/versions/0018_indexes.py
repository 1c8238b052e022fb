"""Answers change conversations in place, and find their question without passing older ones."""

from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Build two indexes, one of them in place of another; nobody waits.

    Where a changed column stands in an index, even one that the row is not in, PostgreSQL writes
    into all indexes of the row. Each answer changes `updated_at` of its conversation twice.
    """
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS unlisted_conversations")  # an invalid one
        op.execute(
            "CREATE INDEX CONCURRENTLY unlisted_conversations ON conversations (created_at) "
            "WHERE NOT is_listed AND deleted_at IS NULL"
        )
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idle_unlisted_conversations")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS held_messages")
        op.execute(
            "CREATE INDEX CONCURRENTLY held_messages ON outbox (held_by) WHERE held_by IS NOT NULL"
        )
