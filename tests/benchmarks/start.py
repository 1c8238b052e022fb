"""How long the platform takes to start and to stop, and the memory of its parts at rest.

Its parts start side by side, so what stands beside is the start of the largest: Ray Serve with one
empty deployment. A gateway stands beside a process that has only imported the libraries it uses.
Memory is proportional (PSS), of a part with all its children. All processors are used.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from services.embedded.ports import free_port
from services.embedded.processes import proportional_memory_bytes
from tests.benchmarks.platform import stopped_platform
from tests.benchmarks.records import Conditions, Measurement
from tests.e2e.conftest import RunningPlatform

_MOST_ROUNDS = 5  # a round takes half a minute
_REST_S = 5.0
_MEMORY_GOALS_MB = {"gateway": 100.0}
_LIBRARIES = (
    "asyncio, uvicorn, uvloop, httptools, fastapi, asyncpg, redis.asyncio, pyreqwest, jwt, orjson, "
    "httpx, passlib.context, prometheus_client, structlog"
)
Figures = dict[str, list[float]]


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Start and stop, bare programs and platform in turns; the first start makes the data."""
    seconds: Figures = defaultdict(list)
    memory: Figures = defaultdict(list)
    with stopped_platform() as platform:
        first_s = _seconds(platform, "up")
        platform.command("down")
        for _ in range(min(conditions.rounds, _MOST_ROUNDS)):
            _bare_serve(seconds, memory)
            memory["gateway.bare"].append(_bare_gateway_mb())
            seconds["again"].append(_seconds(platform, "up"))
            time.sleep(_REST_S)
            for part in platform.state.parts:
                if part.pid is not None:
                    memory[part.name].append((proportional_memory_bytes(part.pid) or 0) / 1e6)
            seconds["stop"].append(_seconds(platform, "down"))
    yield Measurement("start.first", "s", (first_s,), "lower", beside=("start.bare",))
    yield Measurement("start.again", "s", tuple(seconds["again"]), "lower", beside=("start.bare",))
    yield Measurement("start.bare", "s", tuple(seconds["bare"]), "lower")
    yield Measurement("start.stop", "s", tuple(seconds["stop"]), "lower")
    yield from _memory(memory)


def _memory(memory: Figures) -> Iterator[Measurement]:
    for name, figures in memory.items():
        bare = f"{name}.bare"
        beside = (f"start.memory.{bare}",) if bare in memory else ()
        goal = _MEMORY_GOALS_MB.get(name)
        yield Measurement(f"start.memory.{name}", "MB", tuple(figures), "lower", beside, goal)


def _seconds(platform: RunningPlatform, *command: str) -> float:
    began = time.monotonic()
    platform.command(*command)
    return time.monotonic() - began


def _bare_serve(seconds: Figures, memory: Figures) -> None:
    with tempfile.TemporaryDirectory(prefix="pp-", dir="/tmp") as folder:
        began = time.monotonic()
        module = ("-m", "tests.benchmarks.bare_serve", folder, str(free_port()))
        told = _first_line(*module)
        seconds["bare"].append(told["after_s"] - began)
        memory["serving.bare"].append(told["memory_mb"])


def _bare_gateway_mb() -> float:
    code = (
        f"import {_LIBRARIES}, json, os, sys\n"
        "from services.embedded.processes import proportional_memory_bytes as pss\n"
        "print(json.dumps({'memory_mb': pss(os.getpid()) / 1e6}), flush=True)\n"
        "sys.stdin.read()"
    )
    return float(_first_line("-c", code)["memory_mb"])


def _first_line(*arguments: str) -> dict[str, Any]:
    """Run Python until it has told a line of JSON; return it, and when it came as `after_s`."""
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                break
        else:
            raise RuntimeError(f"{arguments} has ended without a line")
        told = {**json.loads(line), "after_s": time.monotonic()}
        process.communicate(timeout=60)
    return told
