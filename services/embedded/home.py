"""The folder that holds everything one embedded platform keeps.

A marker in it says that it is Polyplane's. Its random identity names the folder outside where
PostgreSQL's data lies when root runs the platform, and that folder names the home in turn: a home
that was moved finds its data, and one that was copied does not take the original's.
"""

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from services.embedded.accounts import unprivileged_account
from services.embedded.files import remove, write_atomically
from services.embedded.marks import HomeRefused, held, read_mark

_ROOT_DATA = Path("/var/lib/polyplane")
_MARKER = ".polyplane-home"
_OWNER = "home.json"
_FOLDERS = ("logs", "objects", "keys", "models", "dagster", "redis", "serving", "run")
_FILES = ("state.json", "supervisor.lock", "servers.json", "secrets.json")


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one folder, which is the platform's identity on this machine."""

    root: Path

    @property
    def instance(self) -> str:
        """Twelve hexadecimal digits that stand for this folder; every process carries them."""
        return hashlib.sha256(f"{self.root}{self._identity() or ''}".encode()).hexdigest()[:12]

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.root / "logs"

    @property
    def state_file(self) -> Path:
        """What the supervisor last said about itself."""
        return self.root / "state.json"

    @property
    def servers_file(self) -> Path:
        """The stores that its platform was last started with."""
        return self.root / "servers.json"

    @property
    def lock_file(self) -> Path:
        """Held by the one supervisor, with its process id in it."""
        return self.root / "supervisor.lock"

    @property
    def objects(self) -> Path:
        """The object store's folder."""
        return self.root / "objects"

    @property
    def keys(self) -> Path:
        """The gateway's signing keys."""
        return self.root / "keys"

    @property
    def models(self) -> Path:
        """Language models that were pulled."""
        return self.root / "models"

    @property
    def dagster(self) -> Path:
        """Dagster's configuration."""
        return self.root / "dagster"

    @property
    def serving(self) -> Path:
        """The serving plane's own HOME, where Ray keeps its token."""
        return self.root / "serving"

    @property
    def run(self) -> Path:
        """An empty folder, in which the parts run."""
        return self.root / "run"

    @property
    def redis(self) -> Path:
        """Redis's data."""
        return self.root / "redis"

    @property
    def postgres(self) -> Path:
        """PostgreSQL's data; as root a link to where `nobody` may go.

        Raises:
            HomeRefused: The link leads to the data of another home.
        """
        link = self.root / "postgres"
        if not link.is_symlink():
            return link
        target = link.resolve()
        self._check_owner(target.parent)
        return target

    def create(self) -> None:
        """Make the folders that are missing, closed to other accounts.

        Raises:
            HomeRefused: The folder holds something else, or points to another home's data.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with held(self.root):  # two `up` at once make one marker
            self.check()
            if self._identity() is None:
                mark = {"identity": secrets.token_hex(8)}
                write_atomically(self.root / _MARKER, json.dumps(mark))
            self.root.chmod(0o700)
            for name in _FOLDERS:
                (self.root / name).mkdir(exist_ok=True, mode=0o700)

    def check(self) -> None:
        """Make sure that the folder is absent, empty or a platform's.

        Raises:
            HomeRefused: It holds something else, or points to another home's data.
        """
        is_new = self._identity() is None
        _ = self.postgres
        if is_new and any(_foreign(self.root)):
            raise HomeRefused(
                f"{self.root} holds files that are not Polyplane's, and is left alone. "
                "Set POLYPLANE_HOME to a new or empty folder."
            )

    def secrets(self) -> dict[str, str]:
        """Return the secrets by name; those that are missing are made and kept, mode 0600."""
        known = self.known_secrets()
        missing = [name for name in SECRETS if name not in known]
        if missing:
            known |= {name: secrets.token_hex(32) for name in missing}
            write_atomically(self.root / "secrets.json", json.dumps(known, indent=2))
        return known

    def known_secrets(self) -> dict[str, str]:
        """Return the secrets that were made so far, by name."""
        path = self.root / "secrets.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}

    def delete(self) -> bool:
        """Remove what the platform made, wherever it lies; tell whether the folder is gone too.

        Raises:
            HomeRefused: The folder is not a platform's, or points to another home's data.
        """
        self.check()
        postgres = self.postgres
        remove(postgres if postgres.parent == self.root else postgres.parent)
        for name in ("postgres", *_FOLDERS, *_FILES, _MARKER):  # the marker last: so it can go on
            for unfinished in self.root.glob(f".{name}.*"):
                remove(unfinished)
            remove(self.root / name)
        with contextlib.suppress(OSError):  # files of others in it, or a mounted volume
            self.root.rmdir()
        return not self.root.exists()

    def _identity(self) -> str | None:
        """Return what the marker says, None where there is none.

        Raises:
            HomeRefused: The marker cannot be understood.
        """
        return read_mark(self.root / _MARKER).get("identity")

    def link_postgres(self) -> None:
        """As root, make the folder of PostgreSQL's data where `nobody` may go. Repeatable.

        Raises:
            HomeRefused: It is another home's.
        """
        link = self.root / "postgres"
        if unprivileged_account() is None or (link.exists() and not link.is_symlink()):
            return
        folder = _ROOT_DATA / str(self._identity())
        if link.is_symlink():
            folder = self.postgres.parent
        elif (folder / _OWNER).exists():
            self._check_owner(folder)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o711)  # whatever the umask: `nobody` must pass
        mark = {"identity": str(self._identity()), "home": str(self.root)}
        if read_mark(folder / _OWNER) != mark:  # it is new, or the home was moved
            write_atomically(folder / _OWNER, json.dumps(mark))
        if not link.is_symlink():
            link.symlink_to(folder / "postgres")

    def _check_owner(self, folder: Path) -> None:
        """Make sure that a data folder is absent or names this home as its owner.

        Raises:
            HomeRefused: It is another's, or this home is a copy of its owner.
        """
        if not folder.exists():
            return
        mark = read_mark(folder / _OWNER)
        identity, owner = self._identity(), Path(mark.get("home", "/"))
        is_copy = owner != self.root and Home(owner)._identity() == identity
        if identity is None or mark.get("identity") != identity or is_copy:
            raise HomeRefused(
                f"{self.root}/postgres leads to {folder}, which {_belonging(mark)}: nothing was "
                "touched. For a new platform, set POLYPLANE_HOME to an empty folder."
            )


SECRETS = (
    "polyplane_owner",
    "polyplane_gateway",
    "polyplane_serving",
    "polyplane_data",
    "polyplane_dagster",
    "redis",
    "redis_serving",
    "redis_data",
    "serving_token_secret",
    "gateway_refresh_secret",
)
"""The names of all secrets; roles of PostgreSQL have their own names."""


def locate() -> Home:
    """Return `POLYPLANE_HOME`, else `.polyplane` in the project around the current folder."""
    named = os.environ.get("POLYPLANE_HOME")
    if named:
        return Home(Path(named).expanduser().resolve())
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / ".polyplane").is_dir() or (folder / "pyproject.toml").is_file():
            return Home((folder / ".polyplane").resolve())
    return Home((here / ".polyplane").resolve())


def _belonging(mark: Mapping[str, str]) -> str:
    if not mark:
        return "does not name its owner"
    return f"belongs to {mark['home']} (its platform runs with POLYPLANE_HOME={mark['home']})"


def _foreign(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder, except for a marker that was never finished."""
    if folder.exists():
        yield from (p for p in folder.iterdir() if not p.name.startswith(f".{_MARKER}."))
