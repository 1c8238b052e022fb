"""What the gateway knows of the parts it depends on."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter
from typing import Literal

import structlog
from pydantic import BaseModel, Field

from planes.shared.clients.serving import ServingClient
from planes.shared.errors import InvalidInput, NoLanguageModel, PlatformError, ToolsUnsupported
from planes.shared.wire import ClientTools, GeneratorStatus
from services.gateway.admin.drain import Drain

State = Literal["ok", "degraded", "unavailable"]
Probe = Callable[[], Awaitable[None]]
_PROBE_S = 2.0
_FRESH_S = 1.0
_log = structlog.get_logger(__name__)


class PartHealth(BaseModel):
    """One part; detail and latency are shown on the admin port only."""

    status: State
    model: str | None = Field(default=None, description="The generator's model.")
    reason: str | None = Field(
        default=None, description="Why this generator was chosen, or why the gateway stops."
    )
    detail: str | None = None
    latency_ms: float | None = None


class Health(BaseModel):
    """The platform as this gateway sees it."""

    status: State
    version: str
    parts: dict[str, PartHealth] = {}


class ServingMonitor:
    """The serving plane's last known generator."""

    def __init__(self, serving: ServingClient) -> None:
        """Store the client; nothing is known yet."""
        self._serving = serving
        self._generator: GeneratorStatus | None = None
        self._embedding_model: str | None = None

    @property
    def model(self) -> str:
        """The generator's model, or "*" while it is unknown."""
        return self._generator.model if self._generator else "*"

    @property
    def embedding_model(self) -> str | None:
        """The embedder's model; None while it is unknown."""
        return self._embedding_model

    @property
    def has_language_model(self) -> bool:
        """Whether the plane is known to have a language model."""
        return self._generator is not None and self._generator.kind != "extractive"

    def require_language_model(self) -> None:
        """Refuse open chat where the plane is known to have no language model.

        Raises:
            NoLanguageModel: It names the settings that bring one.
        """
        if self._generator is not None and self._generator.kind == "extractive":
            raise NoLanguageModel(
                "Open chat needs a language model, and none is configured. Set "
                "SERVING_OPENAI_BASE_URL to an OpenAI-compatible server, or run "
                "`polyplane models pull` and set SERVING_GENERATOR=qwen."
            )

    def require_tools(self, wanted: ClientTools | None) -> None:
        """Refuse what the plane is known not to do with a caller's tools.

        Raises:
            ToolsUnsupported: It has no language model.
            InvalidInput: Arguments have to fit a schema, which its model cannot promise.
        """
        kind = self._generator.kind if self._generator is not None else None
        if kind == "extractive":
            raise ToolsUnsupported
        is_strict = wanted is not None and any(each.strict for each in wanted.functions)
        if kind == "qwen" and is_strict:
            raise InvalidInput(
                "The generator `qwen` does not promise arguments that fit the schema: leave "
                "`strict` out.",
                extensions={"param": "tools"},
            )

    async def look(self) -> dict[str, PartHealth]:
        """Ask the plane and return its parts, `serving` and `generator`."""
        started = perf_counter()
        try:
            health = await self._serving.health()
        except PlatformError as error:
            down = PartHealth(status="unavailable", detail=error.detail)
            model = self._generator.model if self._generator else None
            return {
                "serving": down,
                "generator": PartHealth(status="unavailable", model=model),
            }
        if health.generator != self._generator:
            _log.info("generator", **health.generator.model_dump())
        self._generator = health.generator
        self._embedding_model = health.embedding_model
        return {
            "serving": PartHealth(
                status=health.status,
                detail=", ".join(f"{name}: {state}" for name, state in health.parts.items()),
                latency_ms=_milliseconds_since(started),
            ),
            "generator": PartHealth(
                status="ok" if health.parts.get("generator") == "ok" else "unavailable",
                model=health.generator.model,
                reason=health.generator.reason,
            ),
        }


class HealthService:
    """Asks every part, each with a deadline; answers are one second old at most."""

    def __init__(
        self, probes: dict[str, Probe], monitor: ServingMonitor, version: str, drain: Drain
    ) -> None:
        """Store the probes by part; a probe raises where its part does not answer."""
        self._probes = probes
        self._monitor = monitor
        self._version = version
        self._drain = drain
        self._lock = asyncio.Lock()
        self._health: Health | None = None
        self._asked_at = 0.0

    async def health(self) -> Health:
        """Return the state: unavailable without the database, degraded without another part.

        A process that is about to end is unavailable, and asks nobody any more.
        """
        if self._drain.is_on:
            return _stopping(self._version)
        async with self._lock:
            if self._health is None or monotonic() - self._asked_at > _FRESH_S:
                self._health = await self._ask()
                self._asked_at = monotonic()
            return self._health

    async def public(self) -> Health:
        """Return the same without details and latencies."""
        health = await self.health()
        hidden = {"detail": None, "latency_ms": None}
        parts = {name: part.model_copy(update=hidden) for name, part in health.parts.items()}
        return health.model_copy(update={"parts": parts})

    def live(self) -> Health:
        """Return that this process answers."""
        return Health(status="ok", version=self._version)

    async def _ask(self) -> Health:
        names = list(self._probes)
        serving, probed = await asyncio.gather(
            self._monitor.look(), asyncio.gather(*(_probed(self._probes[name]) for name in names))
        )
        parts = {**dict(zip(names, probed, strict=True)), **serving}
        down = {name for name, part in parts.items() if part.status != "ok"}
        status: State = "unavailable" if "database" in down else "degraded" if down else "ok"
        return Health(status=status, version=self._version, parts=parts)


def _stopping(version: str) -> Health:
    part = PartHealth(status="unavailable", reason="This process is stopping.")
    return Health(status="unavailable", version=version, parts={"gateway": part})


async def _probed(probe: Probe) -> PartHealth:
    started = perf_counter()
    try:
        async with asyncio.timeout(_PROBE_S):
            await probe()
    except (PlatformError, TimeoutError, OSError) as error:
        return PartHealth(status="unavailable", detail=str(error) or type(error).__name__)
    return PartHealth(status="ok", latency_ms=_milliseconds_since(started))


def _milliseconds_since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 1)
