"""Sessions and limits on every layout of Redis, and what a failover costs."""

import asyncio
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from redis.crc import key_slot

from planes.shared.domain import TenantContext
from planes.shared.errors import Unavailable
from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_address import RedisLogin
from planes.shared.stores.redis_caches import CacheEntry, RedisCaches
from planes.shared.stores.redis_clients import redis_client
from services.embedded.binaries import redis_server
from services.embedded.ports import FIRST_OUTGOING_PORT, free_port, is_free
from services.gateway.chat.stops import StopChannel
from services.gateway.chat.stream_buffer import Batch, SentEvent, StreamBuffer, stream_key
from services.gateway.limits.feed import RevocationFeed
from services.gateway.limits.revocations import Revocation
from tests.integration.gateway.auth.conftest import Client, bearer, eventually, gateway
from tests.integration.gateway.auth.test_limits import allow
from tests.servers import debian
from tests.servers.matrix import ran
from tests.servers.redis import Cluster, Guarded, RedisServer, redis_version

pytestmark = pytest.mark.integration

_DOCUMENTATION = Path(__file__).parents[4] / "docs" / "stores.md"
_CLUSTER_BUS = 10_000


@dataclass(frozen=True)
class Place:
    """Where Redis is, and who asks."""

    url: str
    login: RedisLogin | None = None


def ports(count: int) -> list[int]:
    """Return free ports with free ones for the buses of a cluster's nodes, which lie above them."""
    found: set[int] = set()
    while len(found) < count:
        port = free_port()
        bus = port + _CLUSTER_BUS
        if bus < FIRST_OUTGOING_PORT and is_free("127.0.0.1", bus):
            found.add(port)
    return sorted(found)


@pytest.fixture(scope="module")
def guarded(server_folder: Path) -> Iterator[Place]:
    servers = Guarded(server_folder / "guarded", ports(3))
    servers.start()
    yield Place(servers.url)
    servers.stop()


@pytest.fixture(scope="module")
def cluster(server_folder: Path) -> Iterator[Place]:
    servers = Cluster(server_folder / "cluster", ports(4))
    servers.start()
    yield Place(servers.url)
    servers.stop()


@pytest.fixture(scope="module")
def encrypted(server_folder: Path) -> Iterator[Place]:
    """A server that takes TLS alone; the one of the Python package has none."""
    if reason := debian.missing("redis-server"):
        pytest.skip(reason)
    debian.unpack("redis-server")
    folder = server_folder / "encrypted"
    authority, certificate, key = make_certificate(server_folder)
    [port] = ports(1)
    server = RedisServer(
        folder,
        port,
        [
            "port 0",
            f"tls-port {port}",
            f"tls-cert-file {certificate}",
            f"tls-key-file {key}",
            f"tls-ca-cert-file {authority}",
            "tls-auth-clients no",
        ],
        program=_debians_program(),
        environment=debian.environment(debian.root("redis-server")),
    )
    server.start()
    server.wait_for_port()
    yield Place(f"rediss://127.0.0.1:{port}/0", RedisLogin(ca=authority))
    server.end()


def make_certificate(folder: Path) -> tuple[Path, Path, Path]:
    """Make a certificate for loopback that is its own authority; return it twice, and its key."""
    certificate, key = folder / "redis.pem", folder / "redis.key"
    names = ["-subj", "/CN=redis", "-addext", "subjectAltName=IP:127.0.0.1"]
    output = ["-keyout", str(key), "-out", str(certificate)]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    subprocess.run([*command, *names, *output], check=True, capture_output=True)
    return certificate, certificate, key


@pytest.fixture(scope="module")
def of_a_user(server_folder: Path) -> Iterator[Place]:
    """A server that lets in one user, with the rights that the documentation gives."""
    [line] = [
        line.strip()
        for line in _DOCUMENTATION.read_text("utf-8").splitlines()
        if line.strip().startswith("ACL SETUSER gateway ")
    ]
    user = line.removeprefix("ACL SETUSER ").replace(">PASSWORD", ">rights")
    [port] = ports(1)
    server = RedisServer(server_folder / "user", port, [f"user {user}", "user default off"])
    server.start()
    server.wait_for_port()
    yield Place(f"redis://127.0.0.1:{port}/0", RedisLogin("gateway", "rights"))
    server.end()


def layout(name: str) -> Any:
    """Return a parameter whose tests are a cell of the contract matrix."""
    return pytest.param(name, marks=pytest.mark.contract("sessions and limits", name, name))


@pytest.fixture(params=[layout(each) for each in ("guarded", "cluster", "encrypted", "of_a_user")])
def place(request: pytest.FixtureRequest) -> Place:
    """Each layout."""
    found: Place = request.getfixturevalue(request.param)
    program = _debians_program() if request.param == "encrypted" else redis_server()
    ran(request.config, request.param, redis_version(program))
    return found


def _debians_program() -> Path:
    return debian.root("redis-server") / "usr" / "bin" / "redis-server"


@asynccontextmanager
async def two_gateways(
    place: Place, database_url: str, folder: Path
) -> AsyncIterator[tuple[Client, Client]]:
    """Two gateways that share everything but their connections."""
    async with (
        gateway(database_url, place.url, folder, place.login) as first,
        gateway(database_url, place.url, folder, place.login) as second,
    ):
        for each in (first, second):  # connections to every node, so that none counts as slow
            while not await _is_connected(each):
                continue
        yield first, second


@pytest.fixture
async def pair(
    place: Place, database_urls: dict[str, str], tmp_path: Path
) -> AsyncIterator[tuple[Client, Client]]:
    async with two_gateways(place, database_urls["gateway"], tmp_path) as both:
        yield both


async def _is_connected(client: Client) -> bool:
    """Ask every node, many times at once."""
    found = await asyncio.gather(
        *(client.redis.get(f"rate:{{{number}}}") for number in range(30)), return_exceptions=True
    )
    return not any(isinstance(each, BaseException) for each in found)


async def test_exactly_as_many_requests_pass_as_the_plan_says(
    pair: tuple[Client, Client], admin_database: Database
) -> None:
    await allow(admin_database, requests=10, questions=5)
    accounts = [await pair[0].register(name) for name in ("ada", "bob", "eve")]
    for account in accounts:  # in a cluster they lie on different nodes
        answers = await asyncio.gather(
            *(each.get("/auth/me", headers=bearer(account)) for each in pair * 10)
        )
        assert sorted(a.status_code for a in answers) == [200] * 10 + [429] * 10


async def test_sign_outs_hold_on_every_gateway(pair: tuple[Client, Client]) -> None:
    first, second = pair
    stays, leaves = await first.register(), (await second.login()).json()
    for tokens in (stays, leaves):
        assert (await first.get("/auth/me", headers=bearer(tokens))).status_code == 200
    assert (await second.post("/auth/logout", headers=bearer(leaves))).status_code == 204
    assert (await first.get("/auth/me", headers=bearer(leaves))).status_code == 401
    assert (await first.get("/auth/me", headers=bearer(stays))).status_code == 200


async def test_sign_ins_are_counted_on_every_gateway(
    place: Place, database_urls: dict[str, str], tmp_path: Path
) -> None:
    for name in ("bob", "eve", "ada", "joe", "sue"):
        async with two_gateways(place, database_urls["gateway"], tmp_path) as both:
            took_s, statuses = await _wrong_sign_ins(both, name)
        if took_s < 1:  # where the machine stood still, the first wait was over meanwhile
            break
    assert statuses == [401] * 10 + [429] * 6


async def _wrong_sign_ins(pair: tuple[Client, Client], name: str) -> tuple[float, list[int]]:
    """Fail to sign in 16 times; return how long the second half took, and the sorted statuses."""
    await pair[0].register(name)
    statuses = [(await each.login(name, "wrong")).status_code for each in pair * 4]
    began = time.monotonic()
    answers = await asyncio.gather(*(each.login(name, "wrong") for each in pair * 4))
    return time.monotonic() - began, sorted([*statuses, *(a.status_code for a in answers)])


async def test_revocations_and_stops_are_heard(place: Place) -> None:
    redis = redis_client(place.url, place.login)
    ended, answer_id = Revocation(uuid4(), frozenset({uuid4()}), 3), uuid4()
    feed, stops = RevocationFeed(redis), StopChannel(redis)
    revocations, stopped = feed.revocations(), asyncio.Queue[UUID]()

    async def listen() -> None:
        while True:  # as the gateway does
            with suppress(Unavailable):
                await stops.listen(stopped.put_nowait)

    listening = asyncio.create_task(listen())
    try:
        async with asyncio.timeout(30):
            assert await anext(revocations) is None, "some may have been missed before"
            await redis.publish("revocations", ended.encoded())
            assert await anext(revocations) == ended
            assert feed.is_alive
            while stopped.empty():
                await stops.tell(answer_id)
                await asyncio.sleep(0.1)
        assert await stopped.get() == answer_id
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await revocations.aclose()
        await redis.aclose()


async def test_streams_and_caches_work(place: Place) -> None:
    redis = redis_client(place.url, place.login)
    try:
        buffer = StreamBuffer(redis)
        key = stream_key(TenantContext(uuid4(), uuid4()), uuid4())
        batch = Batch(0, (SentEvent(1, b"one"), SentEvent(2, b"two", is_last=True)))
        for _ in range(2):
            await buffer.append(key, batch, oldest=1, lifetime_s=60)
        await buffer.see(key, 60)
        assert await buffer.after(key, 0) == [batch]
        assert await buffer.seen_s(key) > 0
        await buffer.forget(key)

        caches, tenants = RedisCaches(redis), [uuid4() for _ in range(5)]
        for tenant_id in tenants:
            entry = CacheEntry(tenant_id, 1, "answer", "a", b"said")
            assert await caches.put(entry, ttl_s=60)
            assert await caches.get(entry.key) == b"said"
            found = await caches.seal(tenant_id, 2)
            assert found == [entry.key]
            assert not await caches.put(entry, ttl_s=60), "of an older corpus"
            assert await caches.remove(tenant_id, found) == 1
            assert await caches.get(entry.key) is None
    finally:
        await redis.aclose()


@pytest.fixture(scope="module")
def clusters(server_folder: Path) -> Iterator[Cluster]:
    """A cluster whose slots may be moved."""
    servers = Cluster(server_folder / "moved", ports(4))
    servers.start()
    yield servers
    servers.stop()


async def test_a_cluster_is_met_by_many_commands_at_once(clusters: Cluster) -> None:
    for _ in range(5):
        redis = redis_client(clusters.url)
        keys = [f"met-{uuid4()}" for _ in range(30)]
        assert await asyncio.gather(*map(redis.incr, keys)) == [1] * len(keys)
        await redis.aclose()


async def test_a_command_under_way_is_not_asked_again_where_slots_have_moved(
    clusters: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.shared.stores.redis_clients._NODE_WAIT_S", 30)
    first, second, third, _ = clusters.nodes
    redis = redis_client(clusters.url)
    [stays], moved = keys_of(third, clusters, 1), keys_of(second, clusters, 5)
    assert await asyncio.gather(*map(redis.incr, (stays, *moved))) == [1] * 6
    identity = first.ask("CLUSTER", "MYID")
    second.ask("FLUSHALL")  # slots with keys do not go
    for key in moved:
        for node in (first, second):
            node.ask("CLUSTER", "SETSLOT", slot_of(key), "NODE", identity)
    third.freeze()
    try:
        waiting = asyncio.ensure_future(redis.incr(stays))
        await asyncio.sleep(0.1)
        assert [await redis.incr(key) for key in moved] == [1] * 5
    finally:
        third.go_on()
    assert await waiting == 2
    assert await redis.incr(stays) == 3
    await redis.aclose()


async def test_a_certificate_of_somebody_else_is_refused(encrypted: Place) -> None:
    redis = redis_client(encrypted.url)
    with pytest.raises((ssl.SSLError, ConnectionError, Exception), match="certificate"):
        await redis.ping()
    await redis.aclose()


def keys_of(node: RedisServer, servers: Cluster, count: int) -> list[str]:
    """Return new names of keys that lie on one of the masters, in different slots."""
    index, found = servers.nodes.index(node), {}
    while len(found) < count:
        key = f"key-{uuid4()}"
        if slot_of(key) * 3 // 16384 == index:
            found[slot_of(key)] = key
    return list(found.values())


def slot_of(key: str) -> int:
    """Return the slot of a key."""
    return key_slot(key.encode())


@pytest.fixture(params=[layout("guarded"), layout("cluster")])
def failing(request: pytest.FixtureRequest, server_folder: Path) -> Iterator[Guarded | Cluster]:
    """Servers of this test's own, one of which may go."""
    folder = server_folder / f"failing-{uuid4().hex}"
    is_guarded = request.param == "guarded"
    servers = Guarded(folder, ports(3)) if is_guarded else Cluster(folder, ports(4))
    servers.start()
    ran(request.config, request.param, redis_version(redis_server()))
    yield servers
    servers.stop()


async def test_a_failover_that_loses_the_last_writes_revives_nobody_and_lifts_no_limit(
    failing: Guarded | Cluster,
    database_urls: dict[str, str],
    tmp_path: Path,
    admin_database: Database,
) -> None:
    await allow(admin_database, requests=6, questions=5)
    async with gateway(database_urls["gateway"], failing.url, tmp_path) as client:
        stays, leaves = await on_the_first_node(client, failing)
        for tokens in (stays, leaves):
            assert (await client.get("/auth/me", headers=bearer(tokens))).status_code == 200
        failing.replica.freeze()
        failing.master.ask("CLIENT", "KILL", "TYPE", "replica")
        assert (await client.post("/auth/logout", headers=bearer(leaves))).status_code == 204
        answers = [await client.get("/auth/me", headers=bearer(stays)) for _ in range(2)]
        assert [a.status_code for a in answers] == [200] * 2
        failing.master.kill()
        failing.replica.go_on()

        answer = await client.get("/auth/me", headers=bearer(stays))
        assert answer.status_code == 200, "the process counts by itself"
        assert (await client.get("/auth/me", headers=bearer(leaves))).status_code == 401
        assert (await client.login()).status_code == 503

        async def is_back() -> bool:
            return (await client.login("nobody")).status_code == 401

        await eventually(lambda: asyncio.to_thread(quietly, failing), within_s=60)
        await eventually(is_back, within_s=60)
        assert (await client.get("/auth/me", headers=bearer(leaves))).status_code == 401
        refused = [await client.get("/auth/me", headers=bearer(stays)) for _ in range(3)]
        assert [answer.status_code for answer in refused] == [429] * 3, (
            "six of six were used, one of them by the process alone"
        )


def quietly(servers: Guarded | Cluster) -> bool:
    """Tell whether the failover is over."""
    with suppress(Exception):
        return servers.has_failed_over()
    return False


async def on_the_first_node(client: Client, servers: Guarded | Cluster) -> tuple[dict, dict]:
    """Register somebody whose keys are those of the server that will go, and sign in again."""
    for number in range(30):
        account = await client.register(f"person{number}")
        slot = (
            servers.master.ask("CLUSTER KEYSLOT", f"{{{account['user']['id']}}}")
            if isinstance(servers, Cluster)
            else 0
        )
        assert isinstance(slot, int)
        if slot < 16384 // 3:
            return account, (await client.login(f"person{number}")).json()
    raise AssertionError("nobody is on the first node")


async def test_revocations_are_heard_again_after_a_failover(failing: Guarded | Cluster) -> None:
    redis = redis_client(failing.url)
    feed = RevocationFeed(redis)
    heard = asyncio.Queue[Revocation | None]()

    async def listen() -> None:
        async for each in feed.revocations():
            heard.put_nowait(each)

    listening = asyncio.create_task(listen())
    ended = Revocation(uuid4(), frozenset({uuid4()}), 3)

    async def is_heard() -> bool:
        with suppress(Exception):
            async with asyncio.timeout(1):
                await redis.publish("revocations", ended.encoded())
        while not heard.empty():
            if heard.get_nowait() == ended:
                return True
        return False

    try:
        await eventually(is_heard, within_s=30)
        failing.master.freeze()
        await eventually(lambda: asyncio.to_thread(quietly, failing), within_s=60)
        while not heard.empty():
            heard.get_nowait()
        await eventually(is_heard, within_s=60)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        await redis.aclose()
