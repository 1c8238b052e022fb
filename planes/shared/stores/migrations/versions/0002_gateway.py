"""Identity, tenants, limits and billing as the gateway needs them under fire."""

from pathlib import Path

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add to the first schema; its rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("GRANT CREATE ON SCHEMA public TO polyplane_definer")
    for topic in ("audit", "identity", "api_keys", "tenants", "billing", "idempotency"):
        cursor.execute(Path(__file__).with_name(f"0002_{topic}.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
