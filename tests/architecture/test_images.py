"""The images: what their Dockerfile promises, and how large the gateway's packages are."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.architecture.compose import ROOT, SERVICES, module

slim = module(ROOT / "infra/images/slim.py")
_DOCKERFILE = (ROOT / "infra/images/Dockerfile").read_text("utf-8")


def _stage(name: str) -> str:
    (text,) = re.findall(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", _DOCKERFILE, re.M | re.S)
    return str(text)


def test_every_image_of_the_compose_file_is_a_stage_on_the_hardened_base() -> None:
    targets = {given["build"]["target"] for given in SERVICES.values() if "build" in given}
    assert targets == slim.IMAGES.keys()
    for target in targets:
        assert re.search(rf"^FROM runtime AS {target}$", _DOCKERFILE, re.MULTILINE)
        assert not re.search(r"^(RUN|USER|ADD) ", _stage(target), re.MULTILINE)
    runtime = _stage("runtime")
    assert "USER 10001:10001" in runtime
    assert "pip uninstall --yes --root-user-action=ignore setuptools wheel pip" in runtime


def test_all_stages_begin_with_one_python_that_is_known_by_its_digest() -> None:
    bases = set(re.findall(r"^FROM (\S+)", _DOCKERFILE, re.MULTILINE))
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", _DOCKERFILE, re.MULTILINE))
    assert bases - stages == {"${PYTHON}"}
    assert re.search(
        r"^ARG PYTHON=python:3\.11\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", _DOCKERFILE, re.M
    )


def test_whatever_is_installed_from_a_registry_is_checked_by_hash() -> None:
    commands = re.findall(r"pip (?:--python \S+ )?install ((?:[^\n&]*\\\n)*[^\n&]*)", _DOCKERFILE)
    assert len(commands) == 9
    for command in commands:
        is_checked = "--require-hashes" in command and "--only-binary :all:" in command
        words = command.replace("\\", " ").split()
        assert is_checked or words == ["--no-deps", "--no-index", "/wheels/*.whl"]


def test_the_build_sees_no_secrets() -> None:
    rules = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert rules[1] == "*"  # all that is not named stays out
    assert not any(rule.startswith("!infra/compose/secrets") for rule in rules)
    assert "!infra/compose" not in rules


def _copy_packages(lock: Path, target: Path) -> None:
    """Copy what a lock installs from the environment of the tests, as an installer lays it out."""
    for name in re.findall(r"^([a-z0-9-]+)==", lock.read_text("utf-8"), re.MULTILINE):
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue  # of another system or version of Python
        for file in files:
            if file.suffix != ".pyc" and ".." not in file.parts:
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(str(file.locate()), target / file)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The environment of the gateway's image; its interpreter."""
    if shutil.which("strip") is None:
        pytest.skip("no strip: the image's build installs GNU binutils, which are not here")
    folder = tmp_path_factory.mktemp("image") / "polyplane"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    _copy_packages(ROOT / "infra/locks/gateway.txt", packages)
    for product in ("services", "planes"):
        shutil.copytree(ROOT / product, packages / product)
    files = metadata.distribution("polyplane").files or []
    (information,) = [Path(str(file.locate())) for file in files if file.name == "METADATA"]
    shutil.copytree(information.parent, packages / information.parent.name)
    python = folder / "bin" / "python"
    slim.slim(slim.IMAGES["gateway"], packages, python=python)
    yield python
    shutil.rmtree(folder)


def test_the_gateways_packages_take_120_mb_at_most(gateway: Path) -> None:
    (packages,) = gateway.parents[1].glob("lib/python3.*/site-packages")
    assert 50e6 < slim.size(packages) <= 120e6


def test_the_slim_gateway_holds_no_other_plane_and_imports_all_of_its_own(gateway: Path) -> None:
    code = """
import pkgutil, importlib, importlib.util, services.gateway
for module in pkgutil.walk_packages(services.gateway.__path__, "services.gateway."):
    importlib.import_module(module.name)
for absent in ("planes.serving", "planes.data", "services.cli", "services.embedded", "PIL"):
    assert importlib.util.find_spec(absent) is None, absent
import cassandra.cluster, obstore.store, planes.shared.stores.s3_objects
"""
    answer = subprocess.run(
        [str(gateway), "-I", "-B", "-W", "ignore", "-c", code], capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
