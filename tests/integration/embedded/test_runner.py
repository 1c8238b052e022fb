"""One supervised part, with small real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest

from services.embedded.home import Home
from services.embedded.parts import Part, Readiness, port_answers
from services.embedded.ports import free_port
from services.embedded.processes import (
    INSTANCE_VARIABLE,
    PART_VARIABLE,
    end,
    leftovers,
    proportional_memory_bytes,
)
from services.embedded.runner import PartRunner

pytestmark = pytest.mark.integration

_SERVER = """
import http.server, signal, subprocess, sys
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if "parent" in sys.argv:
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print("it listens", flush=True)
address = ("127.0.0.1", int(sys.argv[1]))
http.server.HTTPServer(address, http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "logs").mkdir()
    return Home(tmp_path)


@pytest.fixture
async def run(home: Home) -> AsyncIterator[Callable[..., Awaitable[PartRunner]]]:
    """Start a part that listens on a port, and wait until it is ready."""
    runners: list[tuple[PartRunner, asyncio.Task[None]]] = []

    async def start(*arguments: str, stop_s: float = 5) -> PartRunner:
        port = free_port()
        part = Part(
            name="server",
            command=[sys.executable, "-c", _SERVER, str(port), *arguments],
            environment={INSTANCE_VARIABLE: home.instance, PART_VARIABLE: "server"},
            folder=home.root,
            is_ready=port_answers(port),
            stop_s=stop_s,
        )
        runner = PartRunner(part, home, lambda: None)
        runners.append((runner, asyncio.create_task(runner.run([]))))
        await _until(runner.is_ready.is_set)
        return runner

    yield start
    for runner, task in runners:
        await runner.stop()
        task.cancel()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_killed_part_is_started_again(run: Callable[..., Awaitable[PartRunner]]) -> None:
    runner = await run()
    first = runner.state.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await _until(lambda: runner.state.pid not in (None, first) and runner.is_ready.is_set())
    assert runner.state.restarts == 1
    assert runner.state.condition == "ready"


async def test_a_part_that_ignores_sigterm_is_killed(
    run: Callable[..., Awaitable[PartRunner]], home: Home
) -> None:
    runner = await run("stubborn", stop_s=0.2)
    await runner.stop()
    assert leftovers(home) == []
    assert runner.state.condition == "stopped"


async def test_grandchildren_in_their_own_session_end_with_their_part(
    run: Callable[..., Awaitable[PartRunner]], home: Home
) -> None:
    runner = await run("parent")
    await _until(lambda: len(leftovers(home, "server")) == 2)
    await runner.stop()
    assert leftovers(home) == []


async def test_what_a_part_prints_stands_in_its_log(
    run: Callable[..., Awaitable[PartRunner]], home: Home
) -> None:
    await run()
    log = home.logs / "server.log"
    await _until(lambda: log.exists() and "it listens" in log.read_text("utf-8"))


async def test_a_part_that_cannot_be_started_says_why(home: Home) -> None:
    part = Part(
        name="absent",
        command=["/does/not/exist"],
        environment={},
        folder=home.root,
        is_ready=port_answers(1),
    )
    runner = PartRunner(part, home, lambda: None)
    task = asyncio.create_task(runner.run([]))
    await _until(lambda: runner.state.condition == "restarting")
    assert "No such file" in (runner.state.detail or "")
    await runner.stop()
    task.cancel()


async def test_a_part_that_runs_once_lets_the_next_ones_start(home: Home) -> None:
    once = Part(
        name="once",
        command=[sys.executable, "-c", ""],
        environment={},
        folder=home.root,
        is_ready=None,
    )
    runner = PartRunner(once, home, lambda: None)
    await runner.run([])
    assert runner.state.condition == "done"
    assert runner.is_ready.is_set()


async def test_processes_of_another_home_are_left_alone(
    run: Callable[..., Awaitable[PartRunner]], tmp_path: Path
) -> None:
    runner = await run()
    assert leftovers(Home(tmp_path / "other")) == []
    assert runner.state.pid is not None
    assert psutil.pid_exists(runner.state.pid)
    assert (proportional_memory_bytes(runner.state.pid) or 0) > 1_000_000


async def test_ending_processes_that_are_gone_does_nothing(home: Home) -> None:
    process = await asyncio.create_subprocess_exec("sleep", "100")
    handle = psutil.Process(process.pid)
    process.kill()
    await process.wait()
    end([handle], grace_s=1)
    assert leftovers(home) == []


def _sleeper(home: Home, is_ready: Readiness) -> Part:
    return Part(
        name="sleeper",
        command=["sleep", "100"],
        environment={
            "PATH": "/usr/bin:/bin",
            INSTANCE_VARIABLE: home.instance,
            PART_VARIABLE: "sleeper",
        },
        folder=home.root,
        is_ready=is_ready,
    )


async def test_a_check_that_raises_is_asked_again(home: Home) -> None:
    answers = iter([ValueError("no such address"), True])

    async def is_ready() -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    said: list[str | None] = []
    runner = PartRunner(_sleeper(home, is_ready), home, lambda: said.append(runner.state.detail))
    task = asyncio.create_task(runner.run([]))
    await _until(runner.is_ready.is_set)
    assert "ValueError: no such address" in said
    await runner.stop()
    task.cancel()


async def test_a_watch_that_fails_is_not_unseen(home: Home) -> None:
    async def is_ready() -> bool:
        return True

    def changed() -> None:
        if runner.state.condition == "ready":
            raise LookupError("gone")

    runner = PartRunner(_sleeper(home, is_ready), home, changed)
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(10):
            await runner.run([])
    await runner.stop()
