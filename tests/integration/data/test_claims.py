"""How claims share the work between tenants, on a real PostgreSQL."""

import hashlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from planes.data.pipeline.registry import ClaimLimits, Registry
from planes.data.pipeline.work import Work
from planes.shared.domain import new_id
from planes.shared.stores.postgres import Database
from tests.integration.data.conftest import Platform

pytestmark = pytest.mark.integration
LIMITS = ClaimLimits(seconds=10, backlog_s=60, documents=500, attempts=3)
SMALL = 5_500  # bytes; about a quarter of a second by estimate


class Queue:
    """Documents that wait, without files, and workers that claim them."""

    def __init__(self, platform: Platform, database: Database) -> None:
        self.platform = platform
        self.admin = platform.admin
        self._database = database

    async def add(self, tenant_id: UUID, *sizes: int) -> None:
        documents = [(new_id(), new_id(), hashlib.sha256(new_id().bytes).digest()) for _ in sizes]
        await self.admin.execute(
            "INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id) "
            "SELECT u.id, $1, m.user_id, 'a file', u.sha256, u.version_id FROM memberships m, "
            "unnest($2::uuid[], $3::uuid[], $4::bytea[]) AS u (id, version_id, sha256) "
            "WHERE m.tenant_id = $1",
            tenant_id,
            *(list(column) for column in zip(*documents, strict=True)),
        )
        ids, versions, hashes = (list(column) for column in zip(*documents, strict=True))
        await self.admin.execute(
            "INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes,"
            " media_type) SELECT u.id, $1, u.document_id, 1, u.sha256, u.size_bytes, 'text/plain' "
            "FROM unnest($2::uuid[], $3::uuid[], $4::bytea[], $5::bigint[]) "
            "AS u (id, document_id, sha256, size_bytes)",
            tenant_id,
            versions,
            ids,
            hashes,
            list(sizes),
        )

    async def claim(self, worker: str, *, between: bool = False) -> list[Work]:
        return await Registry(self._database, worker=worker).claim(LIMITS, between=between)

    async def shares(self, worker: str, *, between: bool = False) -> Counter[UUID]:
        """Claim, and return how many documents of each tenant that gave."""
        return Counter(work.tenant_id for work in await self.claim(worker, between=between))


@pytest.fixture
async def queue(platform: Platform) -> AsyncIterator[Queue]:
    database = Database(platform.settings.database_url.get_secret_value(), service="test")
    await database.open()
    yield Queue(platform, database)
    await database.close()


async def test_a_small_upload_comes_before_a_long_queue_and_goes_without_it(queue: Queue) -> None:
    big, small = await queue.platform.tenant(), await queue.platform.tenant()
    await queue.add(big, *[SMALL] * 300)
    await queue.add(small, SMALL)
    assert await queue.shares("one") == {small: 1}
    assert set(await queue.shares("two")) == {big}


async def test_tenants_with_long_queues_get_like_shares_of_work(queue: Queue) -> None:
    many, few = await queue.platform.tenant(), await queue.platform.tenant()
    await queue.add(many, *[SMALL] * 600)
    await queue.add(few, *[SMALL * 10] * 60)
    shares = await queue.shares("one")
    work_s = {
        tenant: shares[tenant] * (0.05 + size / 30_000)
        for tenant, size in ((many, SMALL), (few, SMALL * 10))
    }
    assert abs(work_s[many] - work_s[few]) < 3
    assert 50 < sum(work_s.values()) <= 60


async def test_a_tenant_that_was_served_waits_for_those_that_were_not(queue: Queue) -> None:
    first, second = await queue.platform.tenant(), await queue.platform.tenant()
    await queue.add(first, *[SMALL] * 600)
    assert set(await queue.shares("one")) == {first}
    await queue.add(second, *[SMALL] * 600)
    shares = await queue.shares("two")
    assert shares[second] > 4 * shares[first]


async def test_a_huge_document_is_claimed_alone_and_in_its_turn(queue: Queue) -> None:
    tenant_id, other = await queue.platform.tenant(), await queue.platform.tenant()
    await queue.add(tenant_id, SMALL, 20_000_000, SMALL)
    await queue.add(other, *[SMALL] * 600)
    sizes = []
    for number in range(20):
        claimed = await queue.claim(f"worker {number}")
        huge = [work for work in claimed if work.size_bytes > SMALL]
        assert not huge or len(claimed) == 1
        sizes += [work.size_bytes for work in claimed if work.tenant_id == tenant_id]
        if len(sizes) == 3:
            return
    pytest.fail(f"claimed of the first tenant: {sizes}")


async def test_work_between_is_of_tenants_that_were_given_less(queue: Queue) -> None:
    big, small, late = [await queue.platform.tenant() for _ in range(3)]
    await queue.add(big, *[SMALL] * 600)
    assert await queue.shares("run", between=True) == {}, "a worker that holds nothing"
    assert set(await queue.shares("run")) == {big}
    assert await queue.shares("run", between=True) == {}, "more of the same"
    await queue.add(small, SMALL)
    await queue.add(late, *[SMALL] * 100, 5_000_000)
    assert await queue.shares("run", between=True) == {small: 1}
    shares = await queue.shares("run", between=True)
    assert set(shares) == {late}
    assert shares[late] * (0.05 + SMALL / 30_000) <= LIMITS.seconds


async def test_a_claim_reads_few_of_twenty_thousand_rows(queue: Queue) -> None:
    tenants = [await queue.platform.tenant() for _ in range(3)]
    for tenant_id in tenants[:2]:
        await queue.add(tenant_id, *[SMALL] * 10_000)
    await queue.add(tenants[2], SMALL)
    await queue.admin.execute("ANALYZE document_versions; ANALYZE documents")
    assert await queue.shares("one") == {tenants[2]: 1}
    assert sum((await queue.shares("two")).values()) > 200
    assert await rows_read(queue) < 5_000


async def rows_read(queue: Queue) -> int:
    """Return how many rows of the queue a claim reads, by the statistics of its transaction."""
    read = (
        "SELECT pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid) "
        "AS rows FROM pg_class WHERE relname = 'document_versions' OR oid IN "
        "(SELECT indexrelid FROM pg_index WHERE indrelid = 'document_versions'::regclass)"
    )
    async with queue.admin.transaction():
        claim = "SELECT count(*) FROM claim_documents('three', 10, 60, 500, '1 minute', 3, false)"
        assert await queue.admin.fetchval(claim) > 200
        counts: list[Any] = await queue.admin.fetch(read)
    return sum(row["rows"] for row in counts)
