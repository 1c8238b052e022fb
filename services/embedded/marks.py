"""Small files that say whose a folder is."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path


class HomeRefused(RuntimeError):
    """The folder, or the data that it points to, is not this platform's; nothing was touched."""


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep others who ask for it out of a folder; the kernel lets go with the process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_mark(path: Path) -> dict[str, str]:
    """Return a mark's content, nothing where there is none.

    Raises:
        HomeRefused: It cannot be understood.
    """
    try:
        content: dict[str, str] = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (ValueError, OSError) as error:
        raise HomeRefused(f"{path} cannot be read: {error}") from error
    return content
