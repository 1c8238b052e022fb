"""Log files of bounded size, one per part."""

import asyncio
import logging
from pathlib import Path

MAX_BYTES = 10 * 1024 * 1024
KEPT_FILES = 3

_log = logging.getLogger(__name__)


class RotatingLog:
    """A file that is renamed to `.1`, `.2`, ... when it is full; the oldest goes."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT_FILES) -> None:
        """Store where; the file is opened with the first write.

        Args:
            path: Of the newest file.
            max_bytes: Size at which the next file begins.
            kept: Number of files, the newest included.
        """
        self._path = path
        self._max_bytes = max_bytes
        self._kept = kept

    def write(self, data: bytes) -> None:
        """Append, and rotate where the file is full."""
        with self._path.open("ab") as file:
            file.write(data)
        self.rotate_if_full()

    def rotate_if_full(self) -> None:
        """Begin the next file where this one has reached its size."""
        if self._path.exists() and self._path.stat().st_size >= self._max_bytes:
            self._rotate()

    async def copy_from(self, stream: asyncio.StreamReader) -> None:
        """Append what a process writes, until it closes its end; lost where the disk is full.

        Reading goes on: a process whose pipe closes or fills up would die or hang of its log.
        """
        is_lost = False
        while data := await stream.read(1 << 16):
            try:
                self.write(data)
                is_lost = False
            except OSError as error:
                if not is_lost:
                    _log.warning("%s is not written: %s", self._path, error)
                is_lost = True

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def log_files(folder: Path) -> dict[str, Path]:
    """Return the newest log file of each part that has one, by the part's name."""
    return {path.stem: path for path in sorted(folder.glob("*.log"))}


def tail(path: Path, lines: int) -> list[str]:
    """Return the last lines of a log, none where there is no log."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - lines * 2000))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []
