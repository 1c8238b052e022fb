"""The folder that holds everything one embedded platform keeps."""

import hashlib
import json
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from services.embedded.accounts import unprivileged_account
from services.embedded.files import write_atomically

_ROOT_DATA = Path("/var/lib/polyplane")


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one folder, which is the platform's identity on this machine."""

    root: Path

    @property
    def instance(self) -> str:
        """Twelve hexadecimal digits that stand for this folder; every process carries them."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:12]

    @property
    def logs(self) -> Path:
        """One log file per part."""
        return self.root / "logs"

    @property
    def state_file(self) -> Path:
        """What the supervisor last said about itself."""
        return self.root / "state.json"

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
        """PostgreSQL's data; as root a link to where `nobody` may go."""
        link = self.root / "postgres"
        return link.resolve() if link.is_symlink() else link

    def create(self) -> None:
        """Make the folders that are missing, closed to other accounts."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o700)
        for folder in (
            self.logs,
            self.objects,
            self.keys,
            self.models,
            self.dagster,
            self.redis,
            self.serving,
            self.run,
        ):
            folder.mkdir(exist_ok=True, mode=0o700)
        if unprivileged_account() is not None:
            self._link_postgres()

    def secrets(self) -> dict[str, str]:
        """Return the secrets by name; those that are missing are made and kept, mode 0600."""
        path = self.root / "secrets.json"
        known: dict[str, str] = json.loads(path.read_text("utf-8")) if path.exists() else {}
        missing = [name for name in SECRETS if name not in known]
        if missing:
            known |= {name: secrets.token_hex(32) for name in missing}
            write_atomically(path, json.dumps(known, indent=2))
        return known

    def delete(self) -> None:
        """Remove everything, wherever it lies."""
        postgres = self.postgres
        shutil.rmtree(self.root)
        if postgres.exists():
            shutil.rmtree(postgres)

    def _link_postgres(self) -> None:
        link = self.root / "postgres"
        if link.is_symlink() or link.exists():
            return
        folder = _ROOT_DATA / self.instance
        if folder.exists():
            # Its home was deleted and its passwords with it; the data is not ours to destroy.
            folder.rename(_free_name(folder))
        _ROOT_DATA.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o711)
        link.symlink_to(folder)


SECRETS = (
    "polyplane_owner",
    "polyplane_gateway",
    "polyplane_serving",
    "polyplane_data",
    "polyplane_dagster",
    "redis",
    "redis_serving",
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


def _free_name(folder: Path) -> Path:
    number = 1
    while (candidate := folder.with_name(f"{folder.name}.orphan-{number}")).exists():
        number += 1
    return candidate
