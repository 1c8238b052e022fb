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
from planes.serving.generation.choose import Choice, RefusedConfiguration, choose
from planes.serving.generation.qwen import QwenOptions
from planes.serving.retrieval.choose_reranker import check_reranker
from planes.serving.settings import ServingSettings
from planes.shared.errors import InvalidInput, Unavailable
from planes.shared.stores.chunk_settings import chunk_stores
from planes.shared.stores.postgres import SCHEMA_REVISION, Database, SchemaMismatch
from planes.shared.telemetry import configure_logging

if TYPE_CHECKING:
    from ray.serve import Application

_CHECK_S = 1.0
_BESIDE = 64  # searches, embeddings and questions after health, besides the answers
_CHECKS = 8  # questions after the model's health, besides its answers
_REFUSALS = (RefusedConfiguration, InvalidInput, SchemaMismatch, Unavailable)
_log = structlog.get_logger(__name__)


def build(settings: ServingSettings) -> "Application":
    """Bind the deployments: the ingress, the embedder and, where it is chosen, a language model.

    Raises:
        RefusedConfiguration: The settings ask for what is not installed.
    """
    # Ray reads its environment when it is imported, and `main` writes it first.
    from planes.serving.deployments.embedder import Embedder
    from planes.serving.deployments.ingress import Ingress
    from planes.serving.deployments.scaling import scaling

    # To the type checker Serve's decorator leaves a deployment an ordinary class.
    ingress_class: Any = Ingress
    embedder_class: Any = Embedder
    choice, most = choose(settings), settings.max_answers
    ingress = ingress_class.options(
        **scaling(settings.ingress_replicas, target=most // 4, most=most + _BESIDE, queued=most)
    )
    embedder = embedder_class.options(
        **scaling(settings.embedder_replicas, target=32, most=2 * most, queued=2 * most)
    ).bind(
        threads=settings.embedder_threads,
        precision=settings.embedding_precision,
        models_dir=settings.embedding_models_dir,
    )
    if choice.weights is None:
        application: Application = ingress.bind(settings, embedder)
    else:
        application = ingress.bind(settings, embedder, _language_model(settings, choice))
    return application


def _language_model(settings: ServingSettings, choice: Choice) -> "Application":
    from planes.serving.deployments.generator import LanguageModel
    from planes.serving.deployments.scaling import scaling

    answers = settings.qwen_answers
    most, target = answers + _CHECKS, max(1, answers // 4)
    model_class: Any = LanguageModel
    model: Application = model_class.options(
        **scaling(settings.qwen_replicas, target=target, most=most, queued=answers, least=1),
        ray_actor_options={"num_cpus": 0, "num_gpus": settings.qwen_gpus},
    ).bind(
        choice.weights,
        model=choice.status.model,
        options=QwenOptions(
            precision=settings.qwen_precision,
            batch_size=settings.qwen_batch_size,
            max_answers=most,
            threads=settings.qwen_threads,
            on_gpu=settings.qwen_gpus > 0,
        ),
    )
    return model


def build_from_environment(arguments: dict[str, str]) -> "Application":
    """Bind the deployments for a cluster that is there: what `infra/serve/serve.yaml` names.

    Args:
        arguments: None are known; settings come from the environment.
    """
    del arguments
    return build(ServingSettings.read())


def main() -> None:
    """Start Ray and the application, and wait for SIGTERM or SIGINT."""
    settings = ServingSettings.read()
    configure_logging("serving", settings.log_level)
    try:
        choice = choose(settings)
        check_reranker(settings)
        asyncio.run(check_database(settings))
        folder = ray_environment.prepare_folder(settings)
    except (*_REFUSALS, PermissionError) as error:
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
        InvalidInput: The chunk store cannot do what is needed.
        SchemaMismatch: The database has another schema.
        Unavailable: It does not answer.
    """
    url = settings.database_url.get_secret_value()
    database = Database(url, service="polyplane-serving", max_connections=1)
    await database.open()
    try:
        await database.check_schema(SCHEMA_REVISION)
        store = chunk_stores(settings, database)
        await store.open()
        await store.close()
    finally:
        await database.close()


def serve_until_stopped(settings: ServingSettings, folder: Path) -> list[str]:
    """Serve until a signal comes, or a process of Ray ends; return the names of those that did."""
    # Ray reads its environment when it is imported, and `main` has just written it.
    from planes.serving.deployments.cluster import LocalCluster

    stopping = threading.Event()
    cluster = LocalCluster(
        ray_environment.ray_folder(folder),
        object_store_bytes=settings.object_store_bytes,
        gpus=settings.qwen_gpus * settings.qwen_replicas,
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
        # HAProxy in front of it listens on the host that the settings name.
        cluster.run(build(settings), port=settings.port)
        _log.info("serving", address=f"http://{settings.host}:{settings.port}")
        while not stopping.wait(_CHECK_S):
            if dead := cluster.dead_processes():
                return dead
        cluster.drain(settings.drain_s)
    finally:
        cluster.stop()
    return []


if __name__ == "__main__":
    main()
