"""Ingestion of many sources: fair claims, versions, deliveries to clients, index generations."""

from pathlib import Path

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add to the third schema; its rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("GRANT CREATE ON SCHEMA public TO polyplane_definer")
    for topic in ("claims", "documents", "deliveries", "generations", "sources"):
        cursor.execute(Path(__file__).with_name(f"0004_{topic}.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
