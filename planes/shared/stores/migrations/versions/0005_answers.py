"""Answers: streams that go on, feedback, caches."""

from pathlib import Path

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add to the fourth schema; its rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute("GRANT CREATE ON SCHEMA public TO polyplane_definer")
    for topic in ("streams", "feedback", "caches"):
        cursor.execute(Path(__file__).with_name(f"0005_{topic}.sql").read_text("utf-8"))
    cursor.execute("REVOKE CREATE ON SCHEMA public FROM polyplane_definer")
