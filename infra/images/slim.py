"""Removes from an image's packages what it never reads, and compiles the rest.

    python infra/images/slim.py gateway /opt/polyplane/bin/python

An image's file system is read-only, so what is not compiled here is compiled at every start.
Needs Python's standard library, and `strip` of GNU binutils for the gateway.
"""

import argparse
import json
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SOURCES = ("*.c", "*.cc", "*.cpp", "*.h", "*.hpp", "*.pxd", "*.pxi", "*.pyi", "*.pyx")
_IMPORTED = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
print(json.dumps([file for file in files if file and file.endswith(".py")]))
"""


@dataclass(frozen=True)
class Image:
    """What one image does without.

    Attributes:
        own: Folders of this project that it runs.
        unused: Patterns of files and folders that it installs and never reads.
        starts: Modules that it starts, which are compiled with all that they import; none: every
            module is compiled.
        is_stripped: Whether symbols for debuggers are removed from its libraries.
        most_mb: Most that its packages may take, in 10^6 bytes; None: any number.
    """

    own: tuple[str, ...]
    unused: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    is_stripped: bool = False
    most_mb: int | None = None


IMAGES = {
    "gateway": Image(
        own=("services/gateway", "planes/shared"),
        # Pillow is for pictures in invoices, pycparser for whoever builds with cffi.
        unused=("PIL", "pillow-*", "pillow.libs", "pycparser*", "manimgx_fonts/*-Italic*"),
        starts=("services.gateway.__main__",),
        is_stripped=True,
        most_mb=120,
    ),
    "serving": Image(own=("planes/serving", "planes/shared")),
    "data": Image(own=("planes/data", "planes/shared")),
    "operations": Image(own=("services", "planes")),
}


def main() -> None:
    """Do what the arguments say; exit with 1 where the image is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image", choices=IMAGES)
    parser.add_argument("python", type=Path, help="the interpreter of the image's environment")
    arguments = parser.parse_args()
    image = IMAGES[arguments.image]
    packages = next(arguments.python.parents[1].glob("lib/python3.*/site-packages"))
    slim(image, packages, python=arguments.python)
    size_mb = size(packages) / 1e6
    print(f"{arguments.image}: {size_mb:.0f} MB of packages")  # noqa: T201 - this is a command
    if image.most_mb is not None and size_mb > image.most_mb:
        sys.exit(f"That is more than {image.most_mb} MB.")


def slim(image: Image, packages: Path, *, python: Path) -> None:
    """Remove what the image does not read, and compile its modules.

    Args:
        image: What to do.
        packages: The folder site-packages.
        python: Interpreter that finds its modules there.
    """
    _remove(_foreign(image, packages))
    for pattern in image.unused:
        _remove(packages.glob(pattern))
    for pattern in (*_SOURCES, "__pycache__"):
        _remove(packages.rglob(pattern))
    libraries = [path for path in packages.rglob("*.so*") if path.is_file()]
    # An extension module is found before the source of the same name.
    _remove(path.with_name(f"{path.name.partition('.')[0]}.py") for path in libraries)
    if image.is_stripped:
        _run("strip", "--strip-unneeded", *map(str, libraries))
    for source in _to_compile(image, packages, python):
        # Nothing in an image changes, so no file's time or content is compared.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(source), quiet=2, invalidation_mode=mode)


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _foreign(image: Image, packages: Path) -> Iterable[Path]:
    """Return this project's folders that the image does not run."""
    for path in [*packages.glob("services/*/"), *packages.glob("planes/*/")]:
        name = path.relative_to(packages).as_posix()
        if not any(name == own or name.startswith(f"{own}/") for own in image.own):
            yield path


def _remove(paths: Iterable[Path]) -> None:
    for path in list(paths):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _to_compile(image: Image, packages: Path, python: Path) -> list[Path]:
    if not image.starts:
        return list(packages.rglob("*.py"))
    found = json.loads(_run(str(python), "-B", "-c", _IMPORTED, *image.starts))
    return [Path(path) for path in found if Path(path).is_relative_to(packages)]


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    main()
