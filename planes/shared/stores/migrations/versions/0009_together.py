"""Many requests in one statement: answers that are reserved and settled, messages that are read."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add to the eighth schema; its rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("GRANT CREATE ON SCHEMA public TO polyplane_definer")
    cursor.execute(Path(__file__).with_name("0009_together.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
