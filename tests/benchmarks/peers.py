"""LiteLLM's proxy under the load of the gateway's ladder, over the same mock upstream.

One process on the measured cores, 64 connections. It verifies one key and keeps no books: no
database, no quota, no conversation. What it answers is asked for in OpenAI's shapes, which are its
own; the gateway's figures beside it are those of `gateway.chat` and `gateway.sse`. `make
benchmark-peers` installs it into an environment of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from services.embedded.ports import free_port
from services.embedded.processes import proportional_memory_bytes
from tests.benchmarks.gateway.ladder import QUESTION
from tests.benchmarks.gateway.upstream import MODEL
from tests.benchmarks.gateway.world import cpu_s
from tests.benchmarks.gateway.wrk import Ask, Load, drive, write_asks
from tests.benchmarks.pinning import pin, pinned
from tests.benchmarks.records import Conditions, Measurement

_PROGRAM = Path(os.environ.get("PEERS_VENV", ".venv-peers")) / "bin" / "litellm"
_CONNECTIONS, _SECONDS, _DELTAS = 64, 8, 50
_START_S = 120
_KEY = "sk-benchmark"


class PeerMissing(Exception):
    """The peer is not installed, or does not start."""


@dataclass(frozen=True, slots=True)
class Run:
    """One round of one kind of request."""

    load: Load
    cpu_us: float
    memory_mb: float


def measure(conditions: Conditions) -> Iterator[Measurement]:
    """Drive it with whole answers and with streams of 50 events, in turns.

    Raises:
        PeerMissing: It is not installed, or does not start.
    """
    if not _PROGRAM.exists():
        raise PeerMissing(f"There is no {_PROGRAM}: run `make benchmark-peers`.")
    runs: dict[str, list[Run]] = {"chat": [], "sse": []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="polyplane-peers-")))
        url, pid = _served(stack, conditions, folder)
        asks = {
            "chat": write_asks(folder, "chat", [_ask(1)]),
            "sse": write_asks(folder, "sse", [_ask(_DELTAS, stream=True)]),
        }
        for name in runs:
            drive(url, asks[name], connections=8, seconds=1)  # warm
        for _ in range(conditions.rounds):
            for name, of_kind in runs.items():
                of_kind.append(_run(url, pid, asks[name]))
    for name, of_kind in runs.items():
        yield from _measurements(name, of_kind)


def _ask(deltas: int, **options: bool) -> Ask:
    messages = [{"role": "user", "content": QUESTION}]
    body = {"model": MODEL, "messages": messages, "max_tokens": deltas, **options}
    return Ask("/v1/chat/completions", _KEY, json.dumps(body))


def _served(stack: ExitStack, conditions: Conditions, folder: Path) -> tuple[str, int]:
    """Start upstream and peer; return the peer's address and process id once it answers."""
    cores, upstream, port = conditions.cores, free_port(), free_port()
    stack.callback(pin, 0, cores.all)
    pin(0, cores.load)  # wrk runs where this process does
    mock = [sys.executable, "-m", "tests.benchmarks.gateway.upstream", str(upstream)]
    _start(stack, pinned(cores.load, *mock), folder / "upstream.log")
    parameters = {
        "model": f"openai/{MODEL}",
        "api_base": f"http://127.0.0.1:{upstream}/v1",
        "api_key": _KEY,
    }
    configuration = {
        "model_list": [{"model_name": MODEL, "litellm_params": parameters}],
        "general_settings": {"master_key": _KEY},
    }
    path = folder / "litellm.yaml"
    path.write_text(json.dumps(configuration), "utf-8")  # JSON is YAML
    options = ["--config", str(path), "--host", "127.0.0.1", "--port", str(port)]
    command = [str(_PROGRAM.absolute()), *options, "--num_workers", "1", "--telemetry", "False"]
    process = _start(stack, pinned(cores.measured, *command), folder / "litellm.log")
    url = f"http://127.0.0.1:{port}"
    _wait_for(url, process, folder / "litellm.log")
    return url, process.pid


def _start(stack: ExitStack, command: list[str], log: Path) -> "subprocess.Popen[bytes]":
    settings = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    environment = {**os.environ, **settings, "LITELLM_LOG": "ERROR"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def _wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/health/liveliness", timeout=2, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise PeerMissing(f"LiteLLM does not answer:\n{log.read_text('utf-8')[-2000:]}")


def _run(url: str, pid: int, asks: Path) -> Run:
    before = cpu_s(pid)
    load = drive(url, asks, connections=_CONNECTIONS, seconds=_SECONDS)
    if load.failed:
        raise PeerMissing(f"{load.failed} of {load.requests} requests failed")
    memory = proportional_memory_bytes(pid) or 0
    return Run(load, 1e6 * (cpu_s(pid) - before) / load.requests, memory / 1e6)


def _measurements(kind: str, runs: list[Run]) -> Iterator[Measurement]:
    name = f"peers.litellm.{kind}"
    rates = tuple(run.load.requests_per_s for run in runs)
    p99s = tuple(run.load.p99_ms for run in runs)
    cpu, memory = tuple(run.cpu_us for run in runs), tuple(run.memory_mb for run in runs)
    yield Measurement(f"{name}.rate", "requests/s", rates, "higher")
    yield Measurement(f"{name}.p99", "ms", p99s, "lower")
    yield Measurement(f"{name}.cpu", "µs", cpu, "lower")
    yield Measurement(f"{name}.memory", "MB", memory, "lower")
    if kind == "sse":
        events = tuple(each / (_DELTAS + 3) for each in cpu)
        yield Measurement(f"{name}.cpu.event", "µs", events, "lower")
