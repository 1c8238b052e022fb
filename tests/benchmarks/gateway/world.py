"""What the ladder runs on: real stores, a mock upstream and one gateway, each on its cores."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
from sqlalchemy import text

from planes.shared.stores.placed_chat_log import note_place
from services.embedded.ports import free_port
from services.embedded.postgres import PLATFORM_DATABASE, SERVICE_ROLES
from services.embedded.schema import bootstrap, owner_connection
from tests.benchmarks.pinning import Cores, pin, pinned
from tests.servers.embedded import OwnPostgres, OwnRedis

_SECRET = "s" * 40
_PASSWORD = "seven herons near a quiet lake"
_START_S = 60
_WITHOUT_LIMITS = """
UPDATE plans SET requests_per_minute = 1000000, chat_requests_per_minute = 1000000,
    messages_per_month = NULL, tokens_per_month = NULL
"""


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody signed in, with conversations to ask in."""

    token: str
    conversations: tuple[str, ...]


@dataclass
class World:
    """Running servers, and what a gateway has to know of them."""

    folder: Path
    cores: Cores
    environment: dict[str, str]
    owner_url: str
    beside: dict[str, int] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(
        self, *command: str, is_measured: bool, environment: dict[str, str]
    ) -> psutil.Process:
        """Start a Python module on the measured cores or beside them."""
        log = (self.folder / f"{command[0]}.log").open("ab")
        cores = self.cores.measured if is_measured else self.cores.load
        process = subprocess.Popen(
            pinned(cores, sys.executable, "-m", *command),
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
        self.processes.append(process)
        return psutil.Process(process.pid)

    def stop(self, process: psutil.Process) -> None:
        """End a process that `start` has started."""
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        except psutil.TimeoutExpired:
            process.kill()


@contextmanager
def world(cores: Cores) -> Iterator[World]:
    """Start PostgreSQL and Redis as the embedded platform does, and the mock upstream."""
    pin(0, cores.load)
    folder = Path(tempfile.mkdtemp(prefix="polyplane-benchmark-"))
    folder.chmod(0o711)
    postgres, redis = OwnPostgres(folder / "postgres"), OwnRedis(folder / "redis")
    started: World | None = None
    try:
        for server in (postgres, redis):
            server.start()
            server.wait_until_open()
        bootstrap(postgres.settings.url, dict.fromkeys(SERVICE_ROLES, "bench"))
        owner_url = postgres.settings.url(PLATFORM_DATABASE)
        with owner_connection(owner_url) as connection:
            connection.execute(text(_WITHOUT_LIMITS))
        asyncio.run(note_place(owner_url.replace("+psycopg2", ""), "postgres"))
        role = SERVICE_ROLES[0]
        upstream = free_port()
        environment = {
            "DATABASE_URL": postgres.settings.url(PLATFORM_DATABASE, role=role, password="bench"),
            "REDIS_URL": redis.settings.url(),
            "OBJECTS_DIR": str(folder / "objects"),
            "SERVING_TOKEN_SECRET": _SECRET,
            "GATEWAY_REFRESH_SECRET": "r" * 32,
            "GATEWAY_KEYS_DIR": str(folder / "keys"),
            "GATEWAY_SERVING_URL": f"http://127.0.0.1:{upstream}",
            "GATEWAY_DAGSTER_URL": "http://127.0.0.1:9",
            "GATEWAY_REGISTRATIONS_PER_MINUTE": "10000",
            "GATEWAY_DRAIN_S": "0",
            "GATEWAY_SHUTDOWN_S": "1",
        }
        started = World(folder, cores, environment, owner_url)
        started.beside = {"postgres": postgres.pid, "redis": redis.pid}
        module = "tests.benchmarks.gateway.upstream"
        mock = started.start(module, str(upstream), is_measured=False, environment={})
        started.beside["upstream"] = mock.pid
        yield started
    finally:
        for process in started.processes if started else []:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
        redis.end()
        postgres.end()
        pin(0, cores.all)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def served(
    running: World, module: str, extra: dict[str, str] | None = None
) -> Iterator[tuple[str, psutil.Process]]:
    """Run a module that serves HTTP at `GATEWAY_PORT`; yield its address and its process."""
    with served_together(running, module, 1, extra) as (url, (process,)):
        yield url, process


@contextmanager
def served_together(
    running: World, module: str, processes: int, extra: dict[str, str] | None = None
) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Do so with several processes on one port, by `GATEWAY_SHARE_PORT`."""
    port, started = free_port(), list[psutil.Process]()
    url = f"http://127.0.0.1:{port}"
    environment = {**running.environment, "GATEWAY_PORT": str(port), **(extra or {})}
    if processes > 1:
        environment["GATEWAY_SHARE_PORT"] = "true"
    try:
        for _ in range(processes):
            admin = free_port()
            own = {**environment, "GATEWAY_ADMIN_PORT": str(admin)}
            process = running.start(module, is_measured=True, environment=own)
            started.append(process)
            live = url if processes == 1 else f"http://127.0.0.1:{admin}"
            _wait_for(live, process, running.folder / f"{module}.log")
        yield url, started
    finally:
        for process in started:
            running.stop(process)


def _wait_for(url: str, process: psutil.Process, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.status() != psutil.STATUS_ZOMBIE:
        try:
            if httpx.get(f"{url}/health/live", timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer:\n{log.read_text('utf-8')[-2000:]}")


def askers(url: str, *, people: int, conversations: int) -> list[Asker]:
    """Sign people up, each with a tenant and so many conversations in open mode."""

    async def one(http: httpx.AsyncClient) -> Asker:
        email = f"{uuid4().hex}@example.com"
        told = await http.post("/auth/register", json={"email": email, "password": _PASSWORD})
        told.raise_for_status()
        token = told.json()["access_token"]
        headers = {"authorization": f"Bearer {token}"}
        made = []
        for _ in range(conversations):
            answer = await http.post("/conversations", json={"mode": "open"}, headers=headers)
            answer.raise_for_status()
            made.append(answer.json()["id"])
        return Asker(token, tuple(made))

    async def everybody() -> list[Asker]:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
            return await asyncio.gather(*(one(http) for _ in range(people)))

    return asyncio.run(everybody())


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process with its children that still run."""
    total = 0.0
    parent = psutil.Process(pid)
    for process in (parent, *parent.children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
        if process is parent:
            total += times.children_user + times.children_system
    return total
