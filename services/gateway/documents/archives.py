"""ZIP archives: which files they hold, read one after the other, with every bound held.

Sizes that an archive declares are bounds too: `zipfile` stops a member at its own. Nothing is ever
written at a path of the archive's choice, because a member's name is only a document's name.
"""

import asyncio
import stat
import zlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, TypeVar
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipExtFile, ZipFile, ZipInfo

from planes.shared.errors import (
    ContentTooLarge,
    InvalidInput,
    PlatformError,
    Unavailable,
    UnsupportedMediaType,
)

_MAX_DIRECTORY_BYTES = 2 << 20
_BLOCK_BYTES = 1 << 20
_MAX_RATIO = 200
_RATIO_MATTERS_BYTES = 1 << 20
_UTF_8_NAME = 0x800
_ENCRYPTED = 0x1
_MADE_ON_UNIX = 3
_ARCHIVES = frozenset({".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst"})
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
_DAMAGED = (
    BadZipFile,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
    zlib.error,
)
_Result = TypeVar("_Result")


def is_archive(filename: str | None) -> bool:
    """Whether a file of that name stands for the files in it."""
    return (filename or "").lower().endswith(".zip")


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an archive; `problem` says why it cannot be taken, if so."""

    info: ZipInfo
    name: str
    problem: PlatformError | None


class Archive:
    """An open archive; only one member is read at a time."""

    def __init__(self, archive: ZipFile) -> None:
        """Store the archive; `open_archive` makes these."""
        self._archive = archive

    def members(self, max_file_bytes: int) -> list[Member]:
        """Return the files, without folders and what systems leave in archives."""
        return [
            Member(info, name, _problem(info, max_file_bytes))
            for info, name in self._named()
            if not _is_litter(name)
        ]

    async def reader(self, member: Member) -> Callable[[], Awaitable[bytes]]:
        """Return what returns the next piece of a member's content, empty at its end.

        Both raise `InvalidInput` where the archive is damaged.
        """
        content: ZipExtFile = await _unless_damaged(self._open, member.info)

        async def read() -> bytes:
            return await _unless_damaged(content.read, _BLOCK_BYTES)

        return read

    def _open(self, info: ZipInfo) -> ZipExtFile:
        content = self._archive.open(info)
        assert isinstance(content, ZipExtFile)  # noqa: S101 (opened for reading)
        return content

    def _named(self) -> Iterator[tuple[ZipInfo, str]]:
        for info in self._archive.infolist():
            if not info.is_dir():
                yield info, _name(info)


async def open_archive(file: BinaryIO) -> Archive:
    """Return the archive in a file.

    Raises:
        InvalidInput: It is none, or its directory is damaged or larger than any honest one.
    """
    return Archive(await _unless_damaged(ZipFile, _BoundedReader(file)))


class _BoundedReader:
    """A file that is never read in large pieces: `zipfile` reads the directory in one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= _MAX_DIRECTORY_BYTES else _MAX_DIRECTORY_BYTES)
        if size > _MAX_DIRECTORY_BYTES or (size < 0 and len(data) == _MAX_DIRECTORY_BYTES):
            raise BadZipFile("the directory is too large")
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()


async def _unless_damaged(act: Callable[..., _Result], *arguments: object) -> _Result:
    """Do something blocking with an archive.

    Raises:
        InvalidInput: What is in the archive does not allow it.
        Unavailable: The object store does not answer.
    """
    try:
        return await asyncio.to_thread(act, *arguments)
    except Unavailable:  # which is an OSError too
        raise
    except _DAMAGED as error:
        raise InvalidInput("This is no ZIP archive, or it is damaged.") from error


def _name(info: ZipInfo) -> str:
    """Return a member's path; many programs write UTF-8 without saying so."""
    if info.flag_bits & _UTF_8_NAME:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _is_litter(path: str) -> bool:
    parts = PurePosixPath(path.replace("\\", "/")).parts
    last = parts[-1].lower() if parts else ""
    return "__MACOSX" in parts or last.startswith("._") or last in _LITTER


def _problem(info: ZipInfo, max_file_bytes: int) -> PlatformError | None:
    """Return why a member cannot be taken, as far as the directory tells."""
    if info.flag_bits & _ENCRYPTED:
        return InvalidInput("The file is encrypted in the archive. Send it without a password.")
    if info.create_system == _MADE_ON_UNIX and stat.S_ISLNK(info.external_attr >> 16):
        return InvalidInput("This is a link in the archive, and not a file.")
    if PurePosixPath(info.filename).suffix.lower() in _ARCHIVES:
        return UnsupportedMediaType("Archives within an archive are not read.")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return UnsupportedMediaType("The file is compressed in another way than with Deflate.")
    return _size_problem(info, max_file_bytes)


def _size_problem(info: ZipInfo, max_file_bytes: int) -> PlatformError | None:
    if info.file_size > max_file_bytes:
        return ContentTooLarge(f"The file is larger than {max_file_bytes:,} bytes.")
    ratio = info.file_size / max(1, info.compress_size)
    if info.file_size > _RATIO_MATTERS_BYTES and ratio > _MAX_RATIO:
        return InvalidInput(
            f"The file is compressed to less than a {_MAX_RATIO}th, as no honest document is."
        )
    return None
