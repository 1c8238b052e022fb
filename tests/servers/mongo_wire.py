"""Messages of MongoDB's wire protocol, as much of it as a proxy must read.

https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

import asyncio
import struct
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")  # length, request id, answer to, operation
_OP_MSG = 2013
_BODY = 0

Document = dict[str, Any]


class CommandError(Exception):
    """What a server answers to a command that it refuses."""

    def __init__(self, code: int, name: str, message: str) -> None:
        """Store the answer."""
        super().__init__(message)
        self.answer = {"ok": 0.0, "errmsg": message, "code": code, "codeName": name}


async def read_message(reader: asyncio.StreamReader) -> bytes | None:
    """Return one whole message; None at the end of the stream."""
    try:
        length = await reader.readexactly(4)
        return length + await reader.readexactly(int.from_bytes(length, "little") - 4)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def command_name(message: bytes) -> str:
    """Return the name of the command of an OP_MSG whose body comes first; "" for others."""
    is_command = _HEADER.unpack_from(message)[3] == _OP_MSG and message[20] == _BODY
    return message[26 : message.index(b"\0", 26)].decode() if is_command else ""


def command_of(message: bytes) -> Document:
    """Return the command of an OP_MSG, without documents that came beside its body."""
    (size,) = struct.unpack_from("<i", message, 21)
    return dict(bson.decode(message[21 : 21 + size]))


def answer_to(message: bytes, document: Document) -> bytes:
    """Return the OP_MSG that answers another one."""
    request_id = _HEADER.unpack_from(message)[1]
    body = struct.pack("<IB", 0, 0) + bson.encode(document)
    return _HEADER.pack(16 + len(body), 0, request_id, _OP_MSG) + body
