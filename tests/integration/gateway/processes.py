"""Two real gateway processes on one port, over real stores and a scripted serving plane.

Import `two_gateways` and `gateway_environment` into a test module to use them.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from services.embedded.ports import free_port
from tests.integration.gateway.conftest import NOBODY, Person, served, signed_up, until
from tests.integration.gateway.plane import TOKEN_SECRET, FakePlane

_START_S = 60
_LONGEST_STOP_S = 40


@dataclass
class GatewayProcess:
    """One process of `python -m services.gateway`, with an admin port of its own."""

    environment: dict[str, str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def admin_url(self) -> str:
        """Where this process alone answers: /health/ready, /health/live, /metrics."""
        return f"http://127.0.0.1:{self.environment['GATEWAY_ADMIN_PORT']}"

    @property
    def pid(self) -> int:
        """The process id."""
        assert self.process is not None
        return self.process.pid

    async def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "services.gateway", env=self.environment, stderr=log
            )
        await until(self._is_alive, seconds=_START_S)

    async def ready_status(self) -> int:
        """Return what this process answers to the question whether it is ready; 0: nothing."""
        try:
            async with httpx.AsyncClient(timeout=5, trust_env=False) as http:
                return (await http.get(f"{self.admin_url}/health/ready")).status_code
        except httpx.TransportError:
            return 0

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end and return its exit code."""
        assert self.process is not None
        async with asyncio.timeout(_LONGEST_STOP_S):
            return await self.process.wait()

    async def kill(self) -> None:
        """End it without ceremony, where it still runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def _is_alive(self) -> bool:
        assert self.process is not None
        assert self.process.returncode is None, self.log.read_text("utf-8")
        try:
            async with httpx.AsyncClient(timeout=2, trust_env=False) as http:
                return (await http.get(f"{self.admin_url}/health/live")).is_success
        except httpx.TransportError:
            return False


@dataclass
class TwoGateways:
    """Both processes; the kernel spreads new connections to `url` over them."""

    url: str
    keys_dir: Path
    first: GatewayProcess
    second: GatewayProcess
    people: list[Person] = field(default_factory=list)

    @property
    def processes(self) -> tuple[GatewayProcess, GatewayProcess]:
        """Both."""
        return self.first, self.second

    async def register(self) -> Person:
        """Sign up somebody new, with a tenant of their own; signed out with the fixture's end."""
        self.people.append(person := await signed_up(self.url))
        return person


@pytest.fixture
def gateway_environment() -> dict[str, str]:
    """Variables that a test module wants to be different."""
    return {}


@pytest.fixture
async def two_gateways(
    plane: FakePlane,
    database_urls: dict[str, str],
    redis_url: str,
    tmp_path: Path,
    gateway_environment: dict[str, str],
) -> AsyncIterator[TwoGateways]:
    """Two gateway processes on one port, on a fresh database."""
    port, keys_dir = free_port(), tmp_path / "keys"
    async with served(plane.app()) as plane_url:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "DATABASE_URL": database_urls["gateway"],
            "REDIS_URL": redis_url,
            "OBJECTS_DIR": str(tmp_path / "objects"),
            "SERVING_TOKEN_SECRET": TOKEN_SECRET,
            "GATEWAY_REFRESH_SECRET": "r" * 32,
            "GATEWAY_KEYS_DIR": str(keys_dir),
            "GATEWAY_PORT": str(port),
            "GATEWAY_SHARE_PORT": "true",
            "GATEWAY_DRAIN_S": "1",
            "GATEWAY_SERVING_URL": plane_url,
            "GATEWAY_DAGSTER_URL": NOBODY,
            "GATEWAY_REGISTRATIONS_PER_MINUTE": "1000",
            **gateway_environment,
        }
        first, second = (
            GatewayProcess(
                environment | {"GATEWAY_ADMIN_PORT": str(free_port())}, tmp_path / f"{name}.log"
            )
            for name in ("first", "second")
        )
        gateways = TwoGateways(f"http://127.0.0.1:{port}", keys_dir, first, second)
        try:
            await asyncio.gather(first.start(), second.start())
            yield gateways
        finally:
            for person in gateways.people:
                await person.http.aclose()
            await asyncio.gather(first.kill(), second.kill())
