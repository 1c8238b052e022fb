"""kill -9 of a serving replica under streams: each ends in `done` or `error`, and others follow."""

import asyncio
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager

import httpx
import psutil
import pytest

from tests.e2e.conftest import RunningPlatform, new_platform
from tests.e2e.person import Person, until
from tests.fakes_serving import ModelServer, Reply, completion_chunk, usage_chunk

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

_STREAMS = 4
_WORDS = 80
_PAUSE_S = 0.1
_ANSWERED_S = 8  # on an idle machine of two cores; a slow one is given more
_PATIENCE = 5


@pytest.fixture(scope="module")
def slow_model() -> Iterator[str]:
    """A model that says a word every tenth of a second, for eight seconds."""
    words = [completion_chunk(f"word{n} ") for n in range(_WORDS)]
    end = [completion_chunk(finish_reason="stop"), usage_chunk(10, _WORDS), "[DONE]"]
    server = ModelServer([Reply([*words, *end], pause_s=_PAUSE_S)] * 200)
    loop, addresses = asyncio.new_event_loop(), []
    is_up, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with server.running() as address:
            addresses.append(address)
            is_up.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()])
    thread.start()
    assert is_up.wait(30)
    yield addresses[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()


@pytest.fixture(scope="module")
def served(slow_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform whose answers take eight seconds."""
    fresh = new_platform(tmp_path_factory.mktemp("replicas") / "home")
    model = {"SERVING_OPENAI_BASE_URL": slow_model, "SERVING_OPENAI_MODEL": "slow"}
    platform = RunningPlatform(fresh.home, {**fresh.environment, **model})
    try:
        platform.command("up")
        yield platform
    finally:
        platform.command("reset", "--yes")


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@contextmanager
def visitor(platform: RunningPlatform) -> Iterator[Person]:
    person = Person(platform.base_url)
    with closing(person.http):
        yield person


def serving_processes(platform: RunningPlatform, name: str) -> list[int]:
    """Ray's processes of a name that belong to this platform."""
    leader = next(part.pid for part in platform.state.parts if part.name == "serving")
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        try:
            if command.startswith(name) and os.getsid(process.pid) == leader:
                found.append(process.pid)
        except ProcessLookupError:
            continue
    return found


def last_event(person: Person, begun: threading.Semaphore) -> str:
    """Ask, and return the name of the stream's last event; releases at the first text."""
    question = {"message": "Say words.", "mode": "open", "stream": True}
    last = "nothing"
    with person.http.stream("POST", "/chat", json=question) as response:
        assert response.status_code == 200, response.read()
        for line in response.iter_lines():
            if line.startswith("event: "):
                last = line.removeprefix("event: ")
                if last == "delta":
                    begun.release()
    return last


def seconds_until_answered(person: Person) -> float:
    """Ask about documents, which needs every replica, until an answer comes."""
    began = time.monotonic()

    def is_answered() -> bool:
        try:
            unheard_of = {"message": f"What is a quay {secrets.token_hex(4)}?"}
            answer = person.http.post("/chat", json=unheard_of, timeout=15)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    until(is_answered, seconds=_ANSWERED_S * _PATIENCE, what="an answer")
    return time.monotonic() - began


@pytest.mark.parametrize(
    "name",
    [
        "ray::ServeReplica:serving:Ingress",
        "ray::ServeReplica:serving:Embedder",
        "ray::ServeController",
        "ray::HAProxyManager",
    ],
)
def test_streams_end_and_others_follow_when_a_process_is_killed(
    served: RunningPlatform,
    name: str,
    resources: ExitStack,
    capsys: pytest.CaptureFixture[str],
) -> None:
    persons = [resources.enter_context(visitor(served)) for _ in range(_STREAMS + 1)]
    usual = seconds_until_answered(persons[-1])  # the slow model is asked for other words first
    begun = threading.Semaphore(0)
    with ThreadPoolExecutor(_STREAMS) as threads:
        streams = [threads.submit(last_event, each, begun) for each in persons[:-1]]
        for _ in streams:
            assert begun.acquire(timeout=60)
        (victim,) = serving_processes(served, name)
        os.kill(victim, signal.SIGKILL)
        seconds = seconds_until_answered(persons[-1])
        ends = [stream.result(timeout=120) for stream in streams]
    with capsys.disabled():
        again = f"answered again after {seconds:.1f} s, {usual:.1f} s of them its usual time"
        print(f"\n{name}: {ends}, {again}")  # noqa: T201 - a figure
    assert set(ends) <= {"done", "error"}
    until(lambda: all(each.has_nothing_reserved() for each in persons), seconds=90)


def test_streams_end_when_the_plane_is_told_to_stop(
    served: RunningPlatform, resources: ExitStack
) -> None:
    person, begun = resources.enter_context(visitor(served)), threading.Semaphore(0)
    with ThreadPoolExecutor(1) as threads:
        stream = threads.submit(last_event, person, begun)
        assert begun.acquire(timeout=60)
        leader = next(part.pid for part in served.state.parts if part.name == "serving")
        assert leader is not None
        os.kill(leader, signal.SIGTERM)
        assert stream.result(timeout=60) == "done"  # it had the time to end
    until(lambda: person.has_nothing_reserved(), seconds=90)
