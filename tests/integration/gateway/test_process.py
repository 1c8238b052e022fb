"""Gateway processes: several on one port, and how one ends."""

import asyncio
import json
import os
import signal
import socket
import time
from collections import Counter
from functools import partial
from pathlib import Path

import asyncpg
import httpx
import jwt
import psutil
import pytest

from services.embedded.ports import free_port
from services.embedded.postgres import Postgres
from services.gateway.auth.key_rotation import rotate
from tests.integration.gateway.conftest import Person, until
from tests.integration.gateway.plane import FakePlane
from tests.integration.gateway.processes import (
    GatewayProcess,
    TwoGateways,
    gateway_environment,
    two_gateways,
)

__all__ = ["gateway_environment", "two_gateways"]  # fixtures

_SECOND_SIGNAL_S = 5


class Load:
    """Requests at a steady rate, every other one over a connection of its own.

    `failures` keeps those that were not answered as they should.
    """

    def __init__(self, people: list[Person], *, per_second: int) -> None:
        self._people = people
        self._per_second = per_second
        self._keeps_none = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self.failures: list[str] = []
        self.answered = 0

    def start(self) -> None:
        self._loop = asyncio.create_task(self._ask_on())

    async def stop(self) -> None:
        assert self._loop is not None
        self._loop.cancel()
        await asyncio.gather(*self._tasks)
        await self._keeps_none.aclose()

    async def _ask_on(self) -> None:
        number = 0
        while True:
            person = self._people[number % len(self._people)]
            http = person.http if number % 2 else self._keeps_none
            task = asyncio.create_task(self._ask(http, person))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            number += 1
            await asyncio.sleep(1 / self._per_second)

    async def _ask(self, http: httpx.AsyncClient, person: Person) -> None:
        url = person.http.base_url.join("/auth/me")
        try:
            answer = await http.get(url, headers=person.http.headers)
        except httpx.HTTPError as error:
            self.failures.append(repr(error))
            return
        self.answered += 1
        if answer.status_code != 200:
            self.failures.append(f"{answer.status_code} {answer.text}")


async def streamed(person: Person) -> list[tuple[str, dict[str, object]]]:
    """Ask, and return the events of the answer."""
    events = []
    async with person.http.stream("POST", "/chat", json={"message": "Why?", "stream": True}) as got:
        assert got.status_code == 200, await got.aread()
        async for line in got.aiter_lines():
            if line.startswith("event: "):
                events.append([line.removeprefix("event: "), {}])
            elif line.startswith("data: "):
                events[-1][1] = json.loads(line.removeprefix("data: "))
    return [(name, data) for name, data in events]


async def open_answers(process: GatewayProcess) -> int:
    """Return how many answers a process has under way."""
    async with httpx.AsyncClient(trust_env=False) as http:
        metrics = (await http.get(f"{process.admin_url}/metrics")).text
    line = next(x for x in metrics.splitlines() if x.startswith("polyplane_gateway_open_answers "))
    return int(float(line.split()[1]))


async def all_open(gateways: TwoGateways, number: int) -> None:
    """Wait until so many answers are under way in both processes together."""

    async def enough() -> bool:
        return sum([await open_answers(process) for process in gateways.processes]) == number

    await until(enough, seconds=60)


async def lift_limits(database_url: str) -> None:
    """Let everybody ask as often as a test does."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        "UPDATE plans SET requests_per_minute = 100000, chat_requests_per_minute = 100000"
    )
    await connection.close()


def processes_of(postgres: Postgres) -> list[int]:
    """Return the processes of a running PostgreSQL, the postmaster first."""
    pid = int((postgres.data / "postmaster.pid").read_text("utf-8").split()[0])
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


@pytest.fixture
def unlimited(database_urls: dict[str, str]) -> None:
    asyncio.run(lift_limits(database_urls["admin"]))


@pytest.mark.usefixtures("unlimited")
async def test_one_of_two_processes_ends_under_fire_and_nobody_notices(
    two_gateways: TwoGateways, plane: FakePlane
) -> None:
    plane.words, plane.pause_s, plane.hold = ["word "] * 40, 0.05, asyncio.Event()
    askers = [await two_gateways.register() for _ in range(4)]
    load = Load([await two_gateways.register() for _ in range(5)], per_second=50)
    load.start()
    streams = [asyncio.create_task(streamed(askers[n % 4])) for n in range(20)]
    await all_open(two_gateways, 20)

    ending, staying = two_gateways.processes
    ending.signal()

    async def is_unready() -> bool:
        return await ending.ready_status() == 503

    await until(is_unready)
    assert await staying.ready_status() == 200
    plane.hold.set()
    code = await ending.ended()
    last = Counter([(await stream)[-1][0] for stream in streams])
    answered = load.answered
    await until(lambda: _more_than(load, answered + 50))
    await load.stop()
    assert code == 0
    assert load.failures == []
    assert last == {"done": 20}


async def _has_fewer_files(process: psutil.Process, number: int) -> bool:
    return bool(process.num_fds() < number)


async def _more_than(load: Load, number: int) -> bool:
    return load.answered > number or bool(load.failures)


class TestImpatient:
    """With a short time for answers."""

    @pytest.fixture
    def gateway_environment(self) -> dict[str, str]:
        return {"GATEWAY_DRAIN_S": "0.5", "GATEWAY_SHUTDOWN_S": "2"}

    async def test_answers_that_take_too_long_end_with_an_error_and_are_billed(
        self, two_gateways: TwoGateways, plane: FakePlane
    ) -> None:
        plane.words, plane.hold = ["one ", "two "], asyncio.Event()
        people = [await two_gateways.register() for _ in range(6)]
        streams = [asyncio.create_task(streamed(person)) for person in people]
        whole = asyncio.create_task(people[0].http.post("/chat", json={"message": "Whole?"}))
        await all_open(two_gateways, 7)
        ending, staying = two_gateways.processes
        ending.signal()
        assert await ending.ended() == 0
        plane.hold.set()
        endings = [(await stream)[-1] for stream in streams]
        for name, data in endings:
            assert name == "done" or (data["status"] == 503 and "restarting" in str(data["detail"]))
        assert (await whole).status_code in (200, 503)
        for person, (name, _) in zip(people[1:], endings[1:], strict=True):
            usage = (await person.http.get("/billing/usage")).json()
            assert usage["quotas"]["messages"]["used"] == 1
            assert usage["quotas"]["tokens"]["used"] == 42, name
        assert await staying.ready_status() == 200

    async def test_neither_a_stalled_reader_nor_an_unfinished_request_keeps_it_alive(
        self, two_gateways: TwoGateways, plane: FakePlane
    ) -> None:
        plane.words = ["word " * 2000] * 400
        person = await two_gateways.register()
        authorization = f"authorization: {person.http.headers['authorization']}\r\n"
        host, port = "127.0.0.1", int(two_gateways.url.rsplit(":", 1)[1])
        body = b'{"message": "Why?", "stream": true}'
        head = (
            f"POST /chat HTTP/1.1\r\nhost: x\r\n{authorization}content-type: application/json\r\n"
        )
        stalled = socket.create_connection((host, port))
        stalled.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        reader, no_body = await asyncio.open_connection(host, port)
        no_body.write(f"{head}content-length: 1000\r\n\r\n".encode())
        idle_reader, half_a_head = await asyncio.open_connection(host, port)
        half_a_head.write(head.encode())
        await all_open(two_gateways, 1)
        for process in two_gateways.processes:
            process.signal()
        assert [await process.ended() for process in two_gateways.processes] == [0, 0]
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"is restarting" in answer
        assert await idle_reader.read() == b""
        stalled.close()
        for writer in (no_body, half_a_head):
            writer.close()
            await writer.wait_closed()

    async def test_it_ends_though_the_database_has_stopped_answering(
        self, two_gateways: TwoGateways, plane: FakePlane, postgres: Postgres
    ) -> None:
        plane.words, plane.hold = ["one ", "two "], asyncio.Event()
        person = await two_gateways.register()
        stream = asyncio.create_task(streamed(person))
        await all_open(two_gateways, 1)
        stopped = processes_of(postgres)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            for process in two_gateways.processes:
                process.signal()
            assert [await process.ended() for process in two_gateways.processes] == [0, 0]
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        assert (await stream)[-1][0] == "error"


async def test_a_second_signal_ends_it_at_once(two_gateways: TwoGateways, plane: FakePlane) -> None:
    plane.hold = asyncio.Event()
    person = await two_gateways.register()
    stream = asyncio.create_task(streamed(person))
    await all_open(two_gateways, 1)
    started = time.monotonic()
    for process in two_gateways.processes:
        process.signal()

    async def both_drain() -> bool:
        return [await p.ready_status() for p in two_gateways.processes] == [503, 503]

    await until(both_drain)
    answer = await person.http.get("/auth/me")
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert (await person.http.get("/health/ready")).status_code == 503
    for process in two_gateways.processes:
        process.signal(signal.SIGINT)
    assert [await p.ended() for p in two_gateways.processes] == [128 + signal.SIGINT] * 2
    assert time.monotonic() - started < _SECOND_SIGNAL_S
    with pytest.raises(httpx.HTTPError):
        await stream


class TestRotation:
    """With a short time between publishing and signing."""

    @pytest.fixture
    def gateway_environment(self) -> dict[str, str]:
        return {"GATEWAY_KEY_PUBLISH_S": "11"}

    @pytest.mark.usefixtures("unlimited")
    async def test_no_request_fails_while_the_signing_key_is_rotated(
        self, two_gateways: TwoGateways
    ) -> None:
        people = [await two_gateways.register() for _ in range(5)]
        load = Load(people, per_second=25)
        load.start()
        rotation = rotate(two_gateways.keys_dir, publish_s=11)
        assert rotation.removed == ()

        async def signs() -> bool:
            newcomer = await two_gateways.register()
            key_id = key_id_of(newcomer)
            assert (await newcomer.http.get("/auth/me")).status_code == 200
            return key_id == rotation.key_id

        await until(signs, seconds=30)
        answered = load.answered
        await until(lambda: _more_than(load, answered + 50))
        await load.stop()
        assert load.failures == []
        published = (await people[0].http.get("/.well-known/jwks.json")).json()["keys"]
        assert len(published) == 2
        assert key_id_of(people[0]) in {key["kid"] for key in published} - {rotation.key_id}


class TestFlooded:
    """With few connections."""

    @pytest.fixture
    def gateway_environment(self) -> dict[str, str]:
        return {"GATEWAY_MAX_CONNECTIONS": "50"}

    async def test_a_flood_of_half_open_connections_keeps_nobody_out(
        self, two_gateways: TwoGateways
    ) -> None:
        person = await two_gateways.register()
        host, port = "127.0.0.1", int(two_gateways.url.rsplit(":", 1)[1])
        flood = []
        for _ in range(400):
            flood.append(connection := socket.create_connection((host, port)))
            connection.sendall(b"POST /auth/login HTTP/1.1\r\nhost: x\r\n")
        async with httpx.AsyncClient(headers=person.http.headers, timeout=20) as newcomer:
            answer = await newcomer.get(f"{two_gateways.url}/auth/me")
        assert answer.status_code == 200
        for process in two_gateways.processes:
            assert await process.ready_status() == 200
            running = psutil.Process(process.pid)
            await until(partial(_has_fewer_files, running, 150))  # those refused may still read why
            soft, hard = running.rlimit(psutil.RLIMIT_NOFILE)
            assert soft == hard
        for connection in flood:
            connection.close()


def key_id_of(person: Person) -> str:
    """Return which key signed somebody's access token."""
    token = person.http.headers["authorization"].removeprefix("Bearer ")
    return str(jwt.get_unverified_header(token)["kid"])


async def test_a_second_program_is_refused_where_the_port_is_not_shared(
    two_gateways: TwoGateways, tmp_path: Path
) -> None:
    environment = {
        **two_gateways.first.environment,
        "GATEWAY_SHARE_PORT": "false",
        "GATEWAY_ADMIN_PORT": str(free_port()),
    }
    other = GatewayProcess(environment, tmp_path / "other.log")
    with pytest.raises(AssertionError, match="cannot listen on"):
        await other.start()
    assert await other.ended() == 1
