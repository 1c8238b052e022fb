"""Titles of conversations."""

_TITLE_CHARS = 60


def title_of(message: str) -> str:
    """Return a conversation's title: the first line of its first message, shortened."""
    line = " ".join(message.strip().splitlines()[0].split())
    return line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 1].rstrip() + "…"
