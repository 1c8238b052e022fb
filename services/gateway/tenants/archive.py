"""A tar archive (POSIX.1-2001, pax) made while it is sent, in bounded memory.

Entries are files as they lie in the object store, and tables as JSON lines, cut into parts of at
most 1,000 rows. After every 1,000 entries, and at the end, stands a list of their SHA-256
(`checksums/000001.jsonl`). `manifest.json` is last: an archive without it was cut off on the way.
"""

import hashlib
import tarfile
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson

ROWS_A_PART = 1000
_MAX_PART_BYTES = 4 << 20
_ENTRIES_A_LIST = 1000
_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A file on its way into the archive; `blocks` yield `size_bytes` bytes."""

    size_bytes: int
    blocks: AsyncIterable[bytes]


class Archive:
    """Yields the bytes of one archive; every method's bytes are to be sent before the next call."""

    def __init__(self, about: dict[str, object], made_at: datetime) -> None:
        """Store what the manifest says beside its counts, and the time of every entry."""
        self._about = about
        self._made_at = made_at
        self._rows: dict[str, int] = {}
        self._unlisted: list[dict[str, object]] = []
        self._lists: list[dict[str, object]] = []
        self._files = 0

    async def table(
        self, name: str, pages: AsyncIterator[Sequence[dict[str, Any]]]
    ) -> AsyncGenerator[bytes, None]:
        """Yield a table as `name.jsonl`, further parts as `name.000002.jsonl` and so on."""
        self._rows[name] = 0
        part, lines, size = 0, [], 0
        async for page in pages:
            for row in page:
                line = _json_line(row)
                lines.append(line)
                size += len(line)
                self._rows[name] += 1
                if len(lines) == ROWS_A_PART or size >= _MAX_PART_BYTES:
                    part += 1
                    yield self._entry(_part_name(name, part), b"".join(lines))
                    lines, size = [], 0
        if lines or not part:
            yield self._entry(_part_name(name, part + 1), b"".join(lines))
        if len(self._unlisted) >= _ENTRIES_A_LIST:
            yield self._checksums()

    async def file(self, path: str, stored: StoredObject) -> AsyncGenerator[bytes, None]:
        """Yield one file.

        Raises:
            OSError: The object has another size than it said; the archive is lost.
        """
        yield self._header(path, stored.size_bytes)
        digest, sent = hashlib.sha256(), 0
        async for block in stored.blocks:
            digest.update(block)
            sent += len(block)
            yield block
        if sent != stored.size_bytes:
            raise OSError(f"{path} changed while it was read")
        yield _padding(sent)
        self._files += 1
        self._note(path, sent, digest.hexdigest())
        if len(self._unlisted) >= _ENTRIES_A_LIST:
            yield self._checksums()

    def end(self) -> bytes:
        """Return the last list, the manifest and the end of the archive."""
        tail = self._checksums()
        manifest = {
            **self._about,
            "exported_at": self._made_at,
            "rows": self._rows,
            "files": self._files,
            "checksums": self._lists,
        }
        content = orjson.dumps(manifest, default=_plain, option=orjson.OPT_INDENT_2)
        tail += self._header(_MANIFEST, len(content)) + content + _padding(len(content))
        return tail + bytes(2 * tarfile.BLOCKSIZE)

    def _entry(self, path: str, content: bytes) -> bytes:
        self._note(path, len(content), hashlib.sha256(content).hexdigest())
        return self._header(path, len(content)) + content + _padding(len(content))

    def _note(self, path: str, size_bytes: int, sha256: str) -> None:
        self._unlisted.append({"path": path, "size_bytes": size_bytes, "sha256": sha256})

    def _checksums(self) -> bytes:
        """Return the list of the entries since the last list, which the manifest vouches for."""
        content = b"".join(_json_line(each) for each in self._unlisted)
        path = f"checksums/{len(self._lists) + 1:06}.jsonl"
        self._lists.append(
            {
                "path": path,
                "entries": len(self._unlisted),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
        )
        self._unlisted = []
        return self._header(path, len(content)) + content + _padding(len(content))

    def _header(self, path: str, size_bytes: int) -> bytes:
        header = tarfile.TarInfo(path)
        header.size = size_bytes
        header.mtime = int(self._made_at.timestamp())
        return header.tobuf(tarfile.PAX_FORMAT)


def _part_name(table: str, part: int) -> str:
    return f"{table}.jsonl" if part == 1 else f"{table}.{part:06}.jsonl"


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def _json_line(row: dict[str, Any]) -> bytes:
    return orjson.dumps(row, default=_plain, option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: object) -> str:
    """Return what JSON has no type for: money as a decimal string, hashes in hexadecimal."""
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, UUID):  # the driver's own subclass
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in an export")
