"""The first schema: identity, documents, chat and money."""

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create everything."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
    for topic in ("identity", "documents", "chat"):
        cursor.execute(Path(__file__).with_name(f"0001_{topic}.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
    cursor.execute(
        "GRANT SELECT ON alembic_version TO polyplane_gateway, polyplane_data, polyplane_serving"
    )
