"""Many requests in one statement: answers that are reserved and settled, messages that are read."""

from pathlib import Path

from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add to the ninth schema; its rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("GRANT CREATE ON SCHEMA public TO polyplane_definer")
    cursor.execute(Path(__file__).with_name("0010_together.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
