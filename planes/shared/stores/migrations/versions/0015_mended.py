"""Rows of the month, where reservations and usage had passed them by, say what the ledger says."""

from alembic import op

revision = "0015"
down_revision = "0014"

_LEFT_OUT = """
SELECT DISTINCT d.tenant_id, d.period
FROM ledger_differences() d JOIN tenants t ON t.id = d.tenant_id AND t.deleted_at IS NULL
ORDER BY 1, 2
"""


def upgrade() -> None:
    """Write those rows anew, each under its lock, once nobody runs the function of before."""
    with op.get_context().autocommit_block():  # waits for writers, and keeps nobody waiting after
        op.execute("BEGIN; LOCK TABLE reservations IN SHARE MODE; COMMIT")
    cursor = op.get_bind().connection.cursor()
    cursor.execute(_LEFT_OUT)
    for tenant_id, period in cursor.fetchall():
        cursor.execute("SELECT rebuild_quota(%s, %s)", (tenant_id, period))
