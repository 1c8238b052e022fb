"""The serving plane as one process: `python -m planes.serving.app`.

It answers on SERVING_HOST:SERVING_PORT and ends cleanly on SIGTERM.
"""

import asyncio
import importlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from planes.serving import ray_environment, reaper
from planes.serving.generation.choose import RefusedConfiguration, choose
from planes.serving.settings import ServingSettings
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import SCHEMA_REVISION, Database, SchemaMismatch
from planes.shared.telemetry import configure_logging

if TYPE_CHECKING:
    from ray.serve import Application

_CHECK_S = 1.0
_log = structlog.get_logger(__name__)


def build(settings: ServingSettings) -> "Application":
    """Bind the deployments: the ingress, the embedder and, where it is chosen, a language model.

    Raises:
        RefusedConfiguration: The settings ask for what is not installed.
    """
    # Ray reads its environment when it is imported, and `main` writes it first.
    from planes.serving.deployments.embedder import Embedder
    from planes.serving.deployments.generator import LanguageModel
    from planes.serving.deployments.ingress import Ingress

    choice = choose(settings)
    embedder = _bind(
        Embedder, threads=settings.embedder_threads, precision=settings.embedding_precision
    )
    if choice.weights is None:
        return _bind(Ingress, settings, embedder)
    model = _bind(LanguageModel, choice.weights, model=choice.status.model)
    return _bind(Ingress, settings, embedder, model)


def _bind(deployment: Any, *arguments: object, **named: object) -> "Application":
    """Bind a deployment; to the type checker Serve's decorator leaves it an ordinary class."""
    application: Application = deployment.bind(*arguments, **named)
    return application


def main() -> None:
    """Start Ray and the application, and wait for SIGTERM or SIGINT."""
    settings = ServingSettings.read()
    configure_logging("serving", settings.log_level)
    try:
        choice = choose(settings)
        asyncio.run(check_database(settings))
        folder = ray_environment.prepare_folder(settings)
    except (RefusedConfiguration, SchemaMismatch, Unavailable, PermissionError) as error:
        sys.exit(str(error))
    _log.info("generator chosen", **choice.status.model_dump())
    os.environ.update(ray_environment.ray_environment(settings, folder))
    reaper.lead_process_group()
    remains = reaper.start(ray_environment.RUN_VARIABLE)
    try:
        dead = serve_until_stopped(settings, folder)
    finally:
        if remains.stdin is not None:
            remains.stdin.close()
        remains.wait()
    if dead:
        sys.exit(f"Ray ended by itself: {', '.join(dead)}")


async def check_database(settings: ServingSettings) -> None:
    """Find out before the slow start whether replicas could work.

    Raises:
        SchemaMismatch: The database has another schema.
        Unavailable: It does not answer.
    """
    url = settings.database_url.get_secret_value()
    database = Database(url, service="polyplane-serving", max_connections=1)
    await database.open()
    try:
        await database.check_schema(SCHEMA_REVISION)
    finally:
        await database.close()


def serve_until_stopped(settings: ServingSettings, folder: Path) -> list[str]:
    """Serve until a signal comes, or a process of Ray ends; return the names of those that did."""
    # Ray reads its environment when it is imported, and `main` has just written it.
    from planes.serving.deployments.cluster import LocalCluster

    stopping = threading.Event()
    cluster = LocalCluster(
        ray_environment.ray_folder(folder), object_store_bytes=settings.object_store_bytes
    )
    try:
        # Importing Serve takes as long as starting the node, which is waiting for the most part.
        importing = threading.Thread(target=importlib.import_module, args=["ray.serve"])
        importing.start()
        cluster.start()
        importing.join()
        cluster.connect()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        cluster.run(build(settings), host=settings.host, port=settings.port)
        _log.info("serving", address=f"http://{settings.host}:{settings.port}")
        while not stopping.wait(_CHECK_S):
            if dead := cluster.dead_processes():
                return dead
    finally:
        cluster.stop()
    return []


if __name__ == "__main__":
    main()
