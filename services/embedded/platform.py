"""Composition root of the platform on one machine: which parts there are, and what each is told.

Every part gets only the secrets that it needs, and of the operator's environment only what is
meant for it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

from planes.data.settings import DataSettings
from planes.serving.settings import ServingSettings
from services.embedded.installation import Installation
from services.embedded.parts import (
    Part,
    Readiness,
    dagster_daemon_is_healthy,
    http_answers,
    port_answers,
    serving_answers,
)
from services.embedded.ports import admin_ports
from services.embedded.postgres import DAGSTER_ROLE
from services.embedded.processes import python_module
from services.gateway.settings import GatewaySettings

_GATEWAY_DATABASE_CONNECTIONS = 100  # of all gateway processes; PostgreSQL takes 200
# Variables of the operator.
_CHUNK_STORES = ("CHUNK_STORE", "MONGO_", "QDRANT_")
_OBJECTS = ("OBJECTS_DIR", "S3_")
_OF_SERVING = ("SERVING_", "HF_", "CUDA_", "NVIDIA_", "OTEL_")
_REDIS_OF_PLANES = ("REDIS_CA", "REDIS_SENTINEL_")
_GATEWAY_LAST_S = 10.0  # it ends itself 8 s after GATEWAY_SHUTDOWN_S
_DAGSTER_FILES = Path(__file__).parents[2] / "infra" / "dagster"


def prepare(installation: Installation) -> None:
    """Write the servers' data folders and configurations. Repeatable."""
    installation.servers.prepare()
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copyfile(_DAGSTER_FILES / name, installation.home.dagster / name)


def platform_parts(installation: Installation) -> list[Part]:
    """Return every part, in the order of their start."""
    servers = installation.servers.parts()
    return [
        *servers,
        _migration(installation, needs=tuple(server.name for server in servers)),
        *_gateways(installation),
        _serving(installation),
        *_data(installation),
    ]


def _migration(installation: Installation, needs: tuple[str, ...]) -> Part:
    home = str(installation.home.root)
    return Part(
        name="migrations",
        command=python_module("services.embedded.migrate"),
        environment=installation.variables("migrations", POLYPLANE_HOME=home),
        folder=installation.home.run,
        needs=needs,
        is_ready=None,
        stop_s=30,
        stop_order=2,
    )


def _gateways(installation: Installation) -> list[Part]:
    """Return the gateway processes; several share the public port."""
    processes = admin_ports(installation.ports)
    shared = {"GATEWAY_SHARE_PORT": str(len(processes) > 1).lower()}
    if "GATEWAY_DRAIN_S" not in installation.environment:
        shared["GATEWAY_DRAIN_S"] = "1"  # no load balancer has to notice
    if "GATEWAY_DATABASE_CONNECTIONS" not in installation.environment:
        connections = min(10, _GATEWAY_DATABASE_CONNECTIONS // len(processes))
        shared["GATEWAY_DATABASE_CONNECTIONS"] = str(connections)
    return [
        _gateway(installation, name, {**shared, "GATEWAY_ADMIN_PORT": str(port)})
        for name, port in processes.items()
    ]


def _gateway(installation: Installation, name: str, own: Mapping[str, str]) -> Part:
    home, ports, secrets = installation.home, installation.ports, installation.secrets
    values = {
        **own,
        "DATABASE_URL": installation.database_url("polyplane_gateway"),
        "SERVING_TOKEN_SECRET": secrets["serving_token_secret"],
        "GATEWAY_REFRESH_SECRET": secrets["gateway_refresh_secret"],
        "GATEWAY_KEYS_DIR": str(home.keys),
        "GATEWAY_HOST": installation.host,
        "GATEWAY_PORT": str(ports["gateway"]),
        "GATEWAY_SERVING_URL": f"http://127.0.0.1:{ports['serving']}",
        "GATEWAY_DAGSTER_URL": f"http://127.0.0.1:{ports['dagster']}",
    }
    return Part(
        name=name,
        command=python_module("services.gateway"),
        environment=installation.variables(
            name, "GATEWAY_", "CHAT_", "CQL_", "REDIS_", "DATABASE_REPLICA_URL", *_OBJECTS, **values
        ),
        folder=home.run,
        needs=("migrations",),
        # Its own port, which answers once the shared one does: any process may answer on that.
        is_ready=http_answers(f"http://127.0.0.1:{own['GATEWAY_ADMIN_PORT']}/health/live"),
        stop_s=installation.gateway_shutdown_s + _GATEWAY_LAST_S,
        stop_order=0,
        settings=GatewaySettings,
    )


def _serving(installation: Installation) -> Part:
    home, ports = installation.home, installation.ports
    hub = Path(installation.environment.get("HOME", "/")) / ".cache" / "huggingface"
    values = {
        "DATABASE_URL": installation.database_url("polyplane_serving"),
        "SERVING_TOKEN_SECRET": installation.secrets["serving_token_secret"],
        "SERVING_PORT": str(ports["serving"]),
        "SERVING_HAPROXY_STATS_PORT": str(ports["serving_stats"]),
        "SERVING_HAPROXY_METRICS_PORT": str(ports["serving_metrics"]),
        "HF_HOME": installation.environment.get("HF_HOME", str(hub)),
        "HOME": str(home.serving),
    }
    if "SERVING_MODELS_DIR" not in installation.environment:
        values["SERVING_MODELS_DIR"] = str(home.models)
    values["EMBEDDING_MODELS_DIR"] = str(installation.embedding_models)
    if "SERVING_RAY_DIR" not in installation.environment:
        values["SERVING_RAY_DIR"] = str(home.serving / "ray")
    return Part(
        name="serving",
        command=python_module("planes.serving.app"),
        environment=installation.variables(
            "serving", *_OF_SERVING, *_CHUNK_STORES, *_REDIS_OF_PLANES, **values
        ),
        folder=home.run,
        needs=("migrations",),
        is_ready=serving_answers(ports["serving"], values["SERVING_TOKEN_SECRET"]),
        stop_s=30,
        settings=ServingSettings,
    )


def _data(installation: Installation) -> list[Part]:
    ports, workspace = installation.ports, str(installation.home.dagster / "workspace.yaml")
    code, ui, own = (str(ports[name]) for name in ("dagster_code", "dagster_ui", "dagster"))
    code_server = python_module(
        "dagster", "api", "grpc", "-h", "127.0.0.1", "-p", code, "-m", "planes.data.definitions",
        "--location-name", "polyplane", "--use-python-environment-entry-point",
    )  # fmt: skip
    webserver = python_module("dagster_webserver", "-h", "127.0.0.1", "-w", workspace)
    daemon = python_module("dagster._daemon", "run", "-w", workspace)
    commands: dict[str, tuple[list[str], Readiness]] = {
        "dagster-code": (code_server, port_answers(int(code))),
        "dagster-web": ([*webserver, "-p", own], _server_info(own)),
        "dagster-ui": ([*webserver, "-p", ui, "--read-only"], _server_info(ui)),
        "dagster-daemon": (daemon, dagster_daemon_is_healthy(int(own))),
    }
    return [_dagster(installation, name, *rest) for name, rest in commands.items()]


def _dagster(
    installation: Installation, name: str, command: list[str], is_ready: Readiness
) -> Part:
    home = installation.home
    values = {
        "DAGSTER_HOME": str(home.dagster),
        "DAGSTER_DATABASE_URL": installation.database_url(DAGSTER_ROLE),
        "DATA_CODE_PORT": str(installation.ports["dagster_code"]),
    }
    stores: tuple[str, ...] = ()
    if name == "dagster-code":
        stores = ("DATA_", *_OBJECTS, *_CHUNK_STORES, *_REDIS_OF_PLANES)
        values["DATABASE_URL"] = installation.database_url("polyplane_data")
        values["EMBEDDING_MODELS_DIR"] = str(installation.embedding_models)
    return Part(
        name=name,
        command=command,
        environment=installation.variables(name, "DAGSTER_", *stores, **values),
        folder=home.run,
        needs=("migrations",),
        is_ready=is_ready,
        settings=DataSettings if name == "dagster-code" else None,
    )


def _server_info(port: str) -> Readiness:
    return http_answers(f"http://127.0.0.1:{port}/server_info")
