"""The real thing: Ray, HAProxy and replicas, started as the platform starts them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from planes.serving.health_check import is_well
from planes.serving.settings import ServingSettings
from planes.shared.domain import TenantContext, new_id
from planes.shared.wire import ServingTokens
from services.embedded.ports import free_port
from tests.fakes_serving import TOKEN_SECRET
from tests.servers.collector import Collector

pytestmark = pytest.mark.integration


@contextmanager
def plane(
    database_url: str, folder: Path, **variables: str
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    port = free_port()
    environment = {
        **os.environ,
        **variables,
        "DATABASE_URL": database_url,
        "SERVING_TOKEN_SECRET": TOKEN_SECRET,
        "SERVING_PORT": str(port),
        "SERVING_HAPROXY_STATS_PORT": str(free_port()),
        "SERVING_HAPROXY_METRICS_PORT": str(free_port()),
        "SERVING_RAY_DIR": str(folder / "ray"),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "planes.serving.app"], env=environment, start_new_session=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def wait_until_healthy(process: "subprocess.Popen[bytes]", address: str) -> dict[str, object]:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None
        try:
            response = httpx.get(f"{address}/v1/health")
            if response.status_code == 200:
                health: dict[str, object] = response.json()
                return health
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("the plane did not become healthy")


def session_members(leader: int) -> list[int]:
    """Live processes of the session that `leader` opened, whatever became of their parents."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if fields[3] == str(leader) and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def run_folder(process: "subprocess.Popen[bytes]") -> Path:
    """The folder where the run keeps the program that Ray starts as HAProxy."""
    for member in session_members(process.pid):
        try:
            environment = Path(f"/proc/{member}/environ").read_bytes()
        except OSError:  # it has just ended
            continue
        for entry in environment.split(b"\0"):
            name, _, value = entry.decode().partition("=")
            if name == "RAY_SERVE_HAPROXY_BINARY_PATH":
                return Path(value).parent
    raise AssertionError("no process of the run knows its HAProxy")


def sockets_of(members: Iterable[int]) -> set[str]:
    """The inodes of the sockets that processes hold."""
    links = []
    for member in members:
        with suppress(OSError):  # it has just ended
            for descriptor in list(Path(f"/proc/{member}/fd").iterdir()):
                with suppress(OSError):
                    links.append(str(descriptor.readlink()))
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def listeners_beyond_loopback(members: Iterable[int]) -> list[str]:
    """Addresses, as the kernel writes them, that processes listen on and that are not loopback."""
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    owned, found, listening = sockets_of(members), [], 0
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in owned:
                listening += 1
                if fields[1].split(":")[0] not in loopback:
                    found.append(fields[1])
    assert listening > 5
    return found


def wait_until_nobody_is_left(leader: int) -> list[int]:
    deadline = time.monotonic() + 10
    while (left := session_members(leader)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


@pytest.mark.timeout(180)
def test_the_plane_serves_and_leaves_nobody_behind_when_it_is_killed(
    database_urls: Mapping[str, str], tmp_path: Path
) -> None:
    with plane(database_urls["serving"], tmp_path) as (process, address):
        assert wait_until_healthy(process, address)["status"] == "ok"
        assert len(session_members(process.pid)) > 5
        assert (folder := run_folder(process)).stat().st_mode & 0o777 == 0o700
        assert (folder / "r").is_dir()
        assert listeners_beyond_loopback(session_members(process.pid)) == []
        process.kill()
        process.wait()
        assert wait_until_nobody_is_left(process.pid) == []


def ask(address: str) -> str:
    """Ask about documents, of which there are none; return the events."""
    tenant = new_id()
    token = ServingTokens(TOKEN_SECRET).mint(TenantContext(tenant, tenant), "request-1")
    body = {
        **{name: str(new_id()) for name in ("answer_id", "message_id", "conversation_id")},
        "message": "When was the harbour opened?",
        "scope": {"generation": 1},
        "max_prompt_tokens": 2000,
        "max_tokens": 200,
    }
    headers = {"authorization": f"Bearer {token}", "x-polyplane-wire": "1"}
    return httpx.post(f"{address}/v1/answer", json=body, headers=headers, timeout=30).text


@pytest.mark.timeout(180)
def test_a_plane_for_other_machines_opens_its_port_alone_and_ends_in_seconds_with_no_span_unsent(
    database_urls: Mapping[str, str], tmp_path: Path
) -> None:
    everywhere = {"SERVING_HOST": "0.0.0.0"}  # noqa: S104
    with (
        Collector().running() as collector,
        plane(
            database_urls["serving"],
            tmp_path,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.address,
            **everywhere,
        ) as (process, address),
    ):
        port = address.rpartition(":")[2]
        settings = ServingSettings.of(
            {
                "DATABASE_URL": database_urls["serving"],
                "SERVING_TOKEN_SECRET": TOKEN_SECRET,
                **everywhere,
                "SERVING_PORT": port,
            }
        )
        assert not is_well(settings)
        wait_until_healthy(process, address)
        assert is_well(settings)
        open_to_all = listeners_beyond_loopback(session_members(process.pid))
        assert open_to_all == [f"00000000:{int(port):04X}"]

        assert "event: done" in ask(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        assert wait_until_nobody_is_left(process.pid) == []
        assert "answer" in {span.name for span in collector.spans}


def test_the_plane_refuses_to_start_without_its_database(tmp_path: Path) -> None:
    with plane("postgresql://nobody@127.0.0.1:9/none", tmp_path) as (process, _):
        assert process.wait(30) == 1
