"""What is needed to end a move of messages."""

from pathlib import Path

from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add to the eighth schema; its rows stay."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(Path(__file__).with_name("0009_chat_log.sql").read_text("utf-8"))
