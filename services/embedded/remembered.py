"""What a home remembers of the stores that its platform was started with.

So the operator's commands use those, and not what the shell of the moment says. The file is closed
to other accounts: addresses may hold passwords. Of a `NAME_FILE` it has the path alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from services.embedded.files import write_atomically
from services.embedded.home import Home
from services.embedded.marks import HomeRefused
from services.embedded.servers import Mode

_STORES = (
    "DATABASE_", "REDIS_", "SERVING_REDIS_", "DATA_REDIS_", "S3_", "OBJECTS_DIR", "CQL_",
    "CHUNK_STORE", "MONGO_", "QDRANT_", "EMBEDDING_MODELS_DIR", "POLYPLANE_POOLER_URL",
    "POLYPLANE_GATEWAY_PASSWORD", "POLYPLANE_SERVING_PASSWORD", "POLYPLANE_DATA_PASSWORD",
    "POLYPLANE_DAGSTER_PASSWORD",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Remembered:
    """The mode of a home's platform, and the variables that name its stores."""

    mode: Mode
    variables: Mapping[str, str]


def store_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those variables that say where stores are and how they are used."""
    return {name: value for name, value in environment.items() if name.startswith(_STORES)}


def remember(home: Home, mode: Mode, environment: Mapping[str, str]) -> None:
    """Keep the stores of a platform that is about to start, mode 0600."""
    content = {"mode": mode, "variables": store_variables(environment)}
    write_atomically(home.servers_file, json.dumps(content, indent=2))


def remembered(home: Home) -> Remembered | None:
    """Return what the last platform of this home was started with, None where there was none.

    Raises:
        HomeRefused: The file cannot be understood.
    """
    try:
        content = json.loads(home.servers_file.read_text("utf-8"))
        return Remembered(content["mode"], content["variables"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise HomeRefused(f"{home.servers_file} cannot be read: {error}") from error


def check_mode(home: Home, mode: Mode) -> None:
    """Make sure that a home is not used in another mode than the one that its data is of.

    Raises:
        HomeRefused: It is; the message says what to set.
    """
    last = remembered(home)
    if mode == "embedded" and last is not None and last.mode == "server":
        raise HomeRefused(
            f"The platform of {home.root} runs on given servers: start it with `polyplane up "
            "--mode server` and their addresses. For another platform, set POLYPLANE_HOME to an "
            "empty folder."
        )
    if mode == "server" and (home.postgres / "data").exists():
        raise HomeRefused(
            f"{home.root} holds the database of an embedded platform, which server mode would not "
            "use: nothing was touched. Set POLYPLANE_HOME to an empty folder."
        )
