"""The compose file as the tests read it."""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
FILES = ROOT / "infra" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRET = re.compile(r"/run/secrets/([a-z0-9_]+)")


def is_one_shot(service: Mapping[str, Any]) -> bool:
    """Whether a service does its work and ends."""
    return bool(service["restart"] == "no")


def module(path: Path) -> ModuleType:
    """Load a script of `infra`, which is no package."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    loaded = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loaded)
    return loaded


def environment(name: str, secrets: Path) -> dict[str, str]:
    """Return a service's environment with its secrets' files in a folder of the test's."""
    given = SERVICES[name].get("environment", {})
    return {
        variable: SECRET.sub(lambda match: str(secrets / match.group(1)), str(value))
        for variable, value in given.items()
        if value is not None  # passed on from whoever calls compose
    }
