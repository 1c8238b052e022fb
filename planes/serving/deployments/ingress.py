"""The only deployment that speaks HTTP; agent, retrieval and the light generators run inside it."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException

from planes.serving.deployments.embedder import REQUEST_TEXTS
from planes.serving.deployments.loopback import listen_on_loopback_where_alone
from planes.serving.ray_environment import LOG_VARIABLE
from planes.shared.collector import settle_collector
from planes.shared.embedding_models import WeightsError
from planes.shared.errors import Unavailable
from planes.shared.telemetry import configure_logging

if TYPE_CHECKING:
    from fastapi import FastAPI

    from planes.serving.plane import Plane
    from planes.serving.retrieval.hybrid import Embed, EmbedBy, Vectors
    from planes.serving.settings import ServingSettings

_EMBED_S = 30.0  # the wait for its turn included
_log = structlog.get_logger(__name__)


@serve.deployment(ray_actor_options={"num_cpus": 0})
@serve.ingress()
class Ingress:
    """One replica of the plane's HTTP application."""

    def __init__(
        self, settings: "ServingSettings", embedder: Any, language_model: Any | None = None
    ) -> None:
        """Store the settings and the handles of the other deployments."""
        listen_on_loopback_where_alone()
        self._settings = settings
        self._embedder = embedder
        self._language_model = language_model
        self._plane: Plane | None = None

    async def drain(self, within_s: float) -> None:
        """Take no more questions; return once all answers have ended, at the latest after that."""
        if self._plane is not None:
            await self._plane.drain(within_s)

    def __serve_build_asgi_app__(self) -> "FastAPI":
        """Return the application of this replica."""
        # The process that binds deployments imports this module and must not load LangGraph.
        from planes.serving.http import create_app
        from planes.serving.plane import build_plane

        _log_where_the_driver_logs()
        configure_logging("serving", self._settings.log_level)
        self._plane = build_plane(
            self._settings,
            embedding_by(self._embedder),
            language_model=self._remote_generator(),
        )
        app = create_app(self._plane)
        settle_collector()
        return app

    def _remote_generator(self) -> Any:
        if self._language_model is None:
            return None
        from planes.serving.deployments.generator import RemoteGenerator
        from planes.serving.generation.choose import choose

        return RemoteGenerator(self._language_model, model=choose(self._settings).status.model)


def _log_where_the_driver_logs() -> None:
    """Write log lines to the driver's standard error, not to a file in Ray's session folder."""
    with contextlib.suppress(OSError, KeyError):  # a socket cannot be opened so; then the file
        path = Path(os.environ[LOG_VARIABLE])
        sys.stderr = path.open("a", buffering=1, encoding="utf-8")


def embedding_by(handle: Any) -> "EmbedBy":
    """Return the embedder deployment as functions of texts to vectors, by their models' names."""

    def embed_by(model: str) -> "Embed":
        async def embed(texts: Sequence[str]) -> "Vectors":
            parts = [
                list(texts[first : first + REQUEST_TEXTS])
                for first in range(0, max(1, len(texts)), REQUEST_TEXTS)
            ]
            try:
                async with asyncio.timeout(_EMBED_S):
                    calls = (handle.embed.remote((part, model)) for part in parts)
                    shares = await asyncio.gather(*calls)
            except (RayError, RayServeException, TimeoutError) as error:
                raise Unavailable("The embedder does not answer. Try again in a moment.") from error
            return _joined(shares)

        return embed

    return embed_by


def _joined(shares: "Sequence[Vectors | WeightsError]") -> "Vectors":
    vectors: list[Vectors] = []
    for share in shares:
        if isinstance(share, WeightsError):
            _log.error("embedding model cannot be used", reason=str(share))
            raise Unavailable("The model of the search index is not there.") from share
        vectors.append(share)
    return np.concatenate(vectors)
