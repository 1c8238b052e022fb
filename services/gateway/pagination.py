"""Cursors: opaque to clients, checked on the way back."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated
from uuid import UUID

from fastapi import Query

from planes.shared.errors import InvalidInput

Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most.")]
Cursor = Annotated[
    str | None, Query(max_length=64, description="`next_cursor` of the part before.")
]


def encode_id(value: UUID) -> str:
    """Return the cursor behind an item."""
    return urlsafe_b64encode(value.bytes).decode().rstrip("=")


def decode_id(cursor: str | None) -> UUID | None:
    """Return the id in a cursor.

    Raises:
        InvalidInput: It is none of ours.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError as error:
        raise InvalidInput("The cursor is not one that this list returned.") from error
