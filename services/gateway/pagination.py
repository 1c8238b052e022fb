"""Cursors: opaque to clients, checked on the way back."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated
from uuid import UUID

from fastapi import Query

from planes.shared.errors import InvalidInput

Limit = Annotated[int, Query(ge=1, le=200, description="How many items at most.")]
_IS_CURSOR = "`next_cursor` of the part before."
Cursor = Annotated[str | None, Query(pattern="^[A-Za-z0-9_-]{22}$", description=_IS_CURSOR)]
NumberCursor = Annotated[str | None, Query(pattern="^[A-Za-z0-9_-]{6}$", description=_IS_CURSOR)]

_ID_BYTES = 16
_NUMBER_BYTES = 4


def encode_id(value: UUID) -> str:
    """Return the cursor behind an item."""
    return _encode(value.bytes)


def decode_id(cursor: str | None) -> UUID | None:
    """Return the id in a cursor; None is the list's beginning.

    Raises:
        InvalidInput: It is none of ours.
    """
    return None if cursor is None else UUID(bytes=_decode(cursor, _ID_BYTES))


def encode_number(value: int) -> str:
    """Return the cursor behind a numbered item."""
    return _encode(value.to_bytes(_NUMBER_BYTES, signed=True))


def decode_number(cursor: str | None) -> int:
    """Return the number in a cursor; 0 is the list's beginning.

    Raises:
        InvalidInput: It is none of ours.
    """
    return 0 if cursor is None else int.from_bytes(_decode(cursor, _NUMBER_BYTES), signed=True)


def _encode(value: bytes) -> str:
    return urlsafe_b64encode(value).decode().rstrip("=")


def _decode(cursor: str, size: int) -> bytes:
    try:
        value = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        value = b""
    if len(value) != size:
        raise InvalidInput("The cursor is not one that this list returned.")
    return value
