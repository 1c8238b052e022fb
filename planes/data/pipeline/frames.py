"""Messages over a pipe: a length (8 bytes, big-endian), then that many bytes."""

import struct
from typing import IO

LENGTH = struct.Struct(">Q")


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next frame, or None at the end of the stream."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    return stream.read(LENGTH.unpack(head)[0])


def write_frame(stream: IO[bytes], body: bytes) -> None:
    """Write a frame and flush it."""
    stream.write(LENGTH.pack(len(body)))
    stream.write(body)
    stream.flush()
