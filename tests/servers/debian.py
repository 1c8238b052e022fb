"""Programs of Debian's packages, unpacked beside the tests: nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.servers.s3 import cache


def missing(package: str) -> str | None:
    """Return why a package cannot be had here; None: it can."""
    if root(package).is_dir():
        return None
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return f"no {package}: it is taken from Debian's packages, and this is no Debian"
    if not _told("apt-cache", "show", package):
        return f"no {package}: apt knows none (apt-get update)"
    return None


def root(package: str) -> Path:
    """Return where a package's files are, or will be."""
    return cache() / f"debian-{package}"


def unpack(package: str) -> None:
    """Download a package, and what of its libraries is not installed, if they are not there yet.

    Raises:
        subprocess.CalledProcessError: The download failed.
    """
    if root(package).is_dir():
        return
    building = root(package).with_name(f"{root(package).name}.{os.getpid()}")
    building.mkdir(parents=True)
    names = [package, *_absent_libraries(package)]
    subprocess.run(["apt-get", "download", "-q", *names], cwd=building, check=True)
    for archive in sorted(building.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", archive, building], check=True)
        archive.unlink()
    building.replace(root(package))


def environment(folder: Path) -> dict[str, str]:
    """Return the environment in which the programs of an unpacked package find its libraries."""
    folders = sorted({str(each.parent) for each in folder.rglob("lib*.so*")})
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(folders)}


def _absent_libraries(package: str) -> list[str]:
    """Return the direct dependencies, and those of a sister package, that are not installed."""
    lines = _told("apt-cache", "depends", "--no-recommends", "--no-suggests", package).splitlines()
    needed = [line.partition("Depends:")[2].strip() for line in lines if "  Depends:" in line]
    sisters = [each for each in needed if each.split("-")[0] == package.split("-")[0]]
    for sister in sisters:
        more = _told("apt-cache", "depends", "--no-recommends", "--no-suggests", sister)
        needed += [
            line.partition("Depends:")[2].strip()
            for line in more.splitlines()
            if "  Depends:" in line
        ]
    libraries = {each for each in needed if each.startswith("lib")}
    return sisters + sorted(each for each in libraries if not _is_installed(each))


def _is_installed(package: str) -> bool:
    return "install ok installed" in _told("dpkg", "-s", package)


def _told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
