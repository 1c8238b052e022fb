"""The folder of a backup: compressed files of lines, hashed as they are written and read."""

import fcntl
import gzip
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from planes.shared.errors import Conflict, InvalidInput
from planes.shared.stores.objects import FolderObjects
from services.operations.manifest import MANIFEST, FileNote, Manifest

_NAME = re.compile(r"\d{8}T\d{9}Z")
_TIME = "%Y%m%dT%H%M%S%f"


class _Hashed:
    """Writes to a file and hashes it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def write(self, block: bytes) -> int:
        self.sha256.update(block)
        self.size_bytes += len(block)
        return self._file.write(block)

    def flush(self) -> None:
        self._file.flush()


class NewBackup:
    """A backup that is being written; nobody takes it for one before `complete`."""

    def __init__(self, folder: Path) -> None:
        """Store its folder, which exists and is empty."""
        self.folder = folder
        self.files: dict[str, FileNote] = {}
        self.objects = FolderObjects(folder / "objects")

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Write a compressed file; it belongs to the backup once the block ends well."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with path.open("xb") as raw:
            hashed = _Hashed(raw)
            with gzip.GzipFile("", "wb", 1, cast(BinaryIO, hashed), mtime=0) as compressed:
                yield cast(BinaryIO, compressed)
            raw.flush()
            os.fsync(raw.fileno())
        self.files[name] = FileNote(size_bytes=hashed.size_bytes, sha256=hashed.sha256.hexdigest())

    @contextmanager
    def scratch(self) -> Iterator[BinaryIO]:
        """Open a file that is no part of the backup, for writing and then reading."""
        path = self.folder / f".{secrets.token_hex(6)}"
        with path.open("x+b") as file:
            path.unlink()  # it goes with this process
            yield file

    def complete(self, manifest: Manifest) -> None:
        """Make it a whole backup, which no loss of power can undo."""
        for folder, _, _ in os.walk(self.folder, topdown=False):
            _flush_folder(Path(folder))
        manifest.write(self.folder)
        _flush_folder(self.folder)


class Backup:
    """A whole backup."""

    def __init__(self, folder: Path) -> None:
        """Read its manifest.

        Raises:
            InvalidInput: There is none, or it was changed.
        """
        self.folder = folder
        self.manifest = Manifest.read(folder)
        self.objects = FolderObjects(folder / "objects")

    @contextmanager
    def file(self, name: str) -> Iterator[BinaryIO]:
        """Read a file's content.

        Raises:
            InvalidInput: The file is not there.
        """
        try:
            with gzip.open(self.folder / name) as file:
                yield cast(BinaryIO, file)
        except FileNotFoundError:
            raise InvalidInput(f"{self.folder / name} is missing.") from None

    def check_files(self) -> None:
        """Compare every file but objects with its hash.

        Raises:
            InvalidInput: One is missing or was changed.
        """
        for name in self.manifest.files:
            self.check_file(name)

    def check_file(self, name: str) -> None:
        """Compare one file with its hash.

        Raises:
            InvalidInput: It is missing or was changed.
        """
        path, note = self.folder / name, self.manifest.files[name]
        if not path.is_file():
            raise InvalidInput(f"{path} is missing.")
        if path.stat().st_size != note.size_bytes or _sha256(path) != note.sha256:
            raise InvalidInput(f"{path} is damaged: its SHA-256 is not the manifest's.")


@contextmanager
def new_backup(parent: Path) -> Iterator[NewBackup]:
    """Yield a backup to write below a folder; it has its name once the block ends well.

    What an attempt before has left is cleaned up. The folder is made, closed to other accounts.

    Raises:
        Conflict: Another backup is being written there.
    """
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _lock(parent):
        _remove_unfinished(parent)
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}{now.microsecond // 1000:03}Z"
        partial = _partial(parent / name)
        partial.mkdir(mode=0o700)
        try:
            backup = NewBackup(partial)
            yield backup
            backup.folder = partial.rename(parent / name)
            _flush_folder(parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def backups_in(parent: Path) -> list[Path]:
    """Return the whole backups below a folder, the oldest first; none where there is no folder."""
    if not parent.is_dir():
        return []
    return sorted(
        path for path in parent.iterdir() if _NAME.fullmatch(path.name) and _is_whole(path)
    )


def made_at(path: Path) -> datetime:
    """Return when a backup was begun, by its name."""
    return datetime.strptime(path.name.removesuffix("Z"), _TIME).replace(tzinfo=UTC)


def keep_newest(parent: Path, number: int) -> list[Path]:
    """Remove all but the newest whole backups below a folder, and return what was removed.

    Raises:
        Conflict: A backup is being written there.
    """
    with _lock(parent):
        surplus = backups_in(parent)[:-number]
        for path in surplus:
            shutil.rmtree(path.rename(_partial(path)))  # from here on it is none
    return surplus


def _partial(path: Path) -> Path:
    """Return how a backup is named that is not whole yet, or no more."""
    return path.with_name(f".{path.name}.partial")


def _remove_unfinished(parent: Path) -> None:
    """Remove what we left; a folder of another name may be a backup that somebody copies here."""
    for path in parent.iterdir():
        name = path.name.removeprefix(".").removesuffix(".partial")
        if path == _partial(parent / name) and _NAME.fullmatch(name) and path.is_dir():
            shutil.rmtree(path)


def _is_whole(path: Path) -> bool:
    return (path / MANIFEST).is_file()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with this process
        except BlockingIOError as error:
            raise Conflict(f"Another backup is being written to {folder}.") from error
        yield


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
