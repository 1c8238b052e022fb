"""Settling takes rows in the order of all others, so that none waits for another in a circle."""

from pathlib import Path

from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Replace a function; rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("GRANT CREATE ON SCHEMA public TO polyplane_definer")
    cursor.execute(Path(__file__).with_name("0013_order.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
