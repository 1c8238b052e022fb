"""Makes the secrets of docker-compose.yml; `make compose-up` runs it, and Python 3 is enough.

Each is a file in infra/compose/secrets, which git ignores. What exists is never written again, so
that a database keeps its password. Compose mounts a file into a container as it is, with the
owner and the mode that it has here, and the programs in the containers run as other accounts: so
the files can be read by all, and the folder, mode 0700, keeps everybody else on this machine out.
"""

import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).with_name("secrets")
_RANDOM = (
    "owner_password", "gateway_password", "serving_password", "data_password", "dagster_password",
    "mongo_owner_password", "mongo_serving_password", "mongo_data_password", "cql_password",
    "cql_gateway_password",
    "redis_password", "redis_gateway_password", "redis_serving_password", "redis_data_password",
    "serving_token_secret",
    "gateway_refresh_secret", "s3_access_key_id", "s3_secret_access_key", "grafana_password",
)  # fmt: skip
_GIVEN = ("serving_openai_api_key",)  # an operator's, empty until then
_GATEWAYS_KEYS = (
    "session", "version", "rate", "address", "attempts", "familiar", "mail", "mail-reminder",
    "stream", "cache",
)  # fmt: skip


def main() -> None:
    """Make what is missing."""
    made = make(FOLDER)
    if made:
        print(f"Made {len(made)} secrets in {FOLDER}. Keep a copy: the data needs them.")  # noqa: T201


def make(folder: Path) -> list[str]:
    """Write the secrets that the folder lacks; return their names."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    made = [name for name in _RANDOM if _write(folder / name, secrets.token_hex(32))]
    made += [name for name in _GIVEN if _write(folder / name, "")]
    known = {name: (folder / name).read_text("utf-8").strip() for name in _RANDOM}
    return made + [name for name, text in DERIVED.items() if _write(folder / name, text(known))]


def _write(path: Path, text: str) -> bool:
    """Write a new file whole or not at all; tell whether it was new."""
    if path.exists():
        return False
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(f"{text}\n", "utf-8")
    unfinished.chmod(0o444)
    unfinished.replace(path)
    return True


Known = Mapping[str, str]


def _database(role: str, database: str) -> Callable[[Known], str]:
    def url(known: Known) -> str:
        return f"postgresql://polyplane_{role}:{known[f'{role}_password']}@postgres:5432/{database}"

    return url


def _redis(user: str, password: str) -> Callable[[Known], str]:
    return lambda known: f"redis://{user}:{known[password]}@redis:6379/0"


def _mongo(user: str) -> Callable[[Known], str]:
    def url(known: Known) -> str:
        account = f"polyplane_{user}:{known[f'mongo_{user}_password']}"
        return f"mongodb://{account}@mongodb:27017/?authSource=admin&directConnection=true"

    return url


def _scylla_users(known: Known) -> str:
    """Return lines for scylla.yaml, which takes a password's hash (SHA-512 crypt).

    Raises:
        SystemExit: There is no `openssl` that makes it.
    """
    command = ["openssl", "passwd", "-6", "-stdin"]
    try:
        made = subprocess.run(command, input=known["cql_password"], capture_output=True, text=True)  # noqa: S603
    except FileNotFoundError:
        sys.exit("The password of ScyllaDB is hashed by openssl 1.1.1 or newer: install it.")
    if made.returncode != 0:
        sys.exit(f"openssl does not hash the password of ScyllaDB: {made.stderr}")
    hashed = made.stdout.strip()
    return f"auth_superuser_name: polyplane\nauth_superuser_salted_password: '{hashed}'"


def _redis_users(known: Known) -> str:
    """Return Redis' users with what each needs: docs/stores.md, docs/caching.md."""
    gateways = " ".join(f"~{name}:*" for name in _GATEWAYS_KEYS)
    channels = "resetchannels &revocations &stopped-answers"
    caches = (
        "resetkeys ~cache:* resetchannels +@all -@admin -@dangerous -@scripting -scan -randomkey"
    )
    return "\n".join(
        (
            f"user default on #{_digest(known['redis_password'])} ~* &* +@all",
            f"user gateway on #{_digest(known['redis_gateway_password'])} resetkeys {gateways} "
            f"{channels} +@all -@admin -@dangerous +info",
            f"user serving on #{_digest(known['redis_serving_password'])} {caches} +info",
            f"user data on #{_digest(known['redis_data_password'])} {caches}",
        )
    )


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


DERIVED: Mapping[str, Callable[[Known], str]] = {
    "database_owner_url": _database("owner", "postgres"),
    "gateway_database_url": _database("gateway", "polyplane"),
    "serving_database_url": _database("serving", "polyplane"),
    "data_database_url": _database("data", "polyplane"),
    "dagster_database_url": _database("dagster", "dagster"),
    "mongo_owner_name": lambda _: "polyplane_owner",
    "serving_mongo_url": _mongo("serving"),
    "data_mongo_url": _mongo("data"),
    "scylla_users": _scylla_users,
    "redis_users": _redis_users,
    "gateway_redis_url": _redis("gateway", "redis_gateway_password"),
    "serving_redis_url": _redis("serving", "redis_serving_password"),
    "data_redis_url": _redis("data", "redis_data_password"),
}
"""What is made of the random ones: addresses that hold a password, and servers' users."""


if __name__ == "__main__":
    main()
