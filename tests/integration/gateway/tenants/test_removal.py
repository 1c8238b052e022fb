"""Working off deleted tenants: from any point again, and nothing of anybody else's."""

from collections.abc import AsyncIterator, Collection
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from redis.asyncio import Redis

from planes.shared.domain import document_prefix
from planes.shared.errors import Unavailable
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_chat_log import PostgresChatLog
from services.gateway.tenants.removal import TenantRemoval, TenantStores
from tests.integration.gateway.conftest import Person
from tests.integration.gateway.tenants.rows import RETAINED, fill, left_over, tenant_tables

pytestmark = pytest.mark.integration
DOCUMENTATION = Path("docs/tenants.md").read_text("utf-8")


class Sessions:
    """Remembers what it was told to end."""

    def __init__(self) -> None:
        self.told: list[UUID] = []

    async def revoked(
        self, user_id: UUID, session_ids: Collection[UUID], *, version: int, tenant_id: UUID | None
    ) -> None:
        del session_ids, version, tenant_id
        self.told.append(user_id)


class FailingChatLog(PostgresChatLog):
    """A chat log that dies, before or after it has removed a conversation."""

    def __init__(self, database: Database, failures: list[str]) -> None:
        super().__init__(database)
        self.failures = failures

    async def remove_conversation(self, tenant_id: UUID, conversation_id: UUID) -> int:
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "before":
            raise Unavailable("The chat log does not answer.")
        count = await super().remove_conversation(tenant_id, conversation_id)
        if failure == "after":
            raise Unavailable("The chat log does not answer.")
        return count


class FailingObjects(FolderObjects):
    """An object store whose disk fails a few times."""

    def __init__(self, folder: Path, failures: int) -> None:
        super().__init__(folder)
        self.failures = failures

    async def remove_prefix(self, prefix: str) -> int:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk does not answer")
        return await super().remove_prefix(prefix)


@pytest.fixture
async def database(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    database = Database(database_urls["gateway"], service="test")
    await database.open()
    yield database
    await database.close()


async def closed_tenant(connection: asyncpg.Connection) -> tuple[UUID, UUID]:
    """Make a tenant with a row in every table whose deletion is due."""
    tenant_id, user_id, conversation_id = uuid4(), uuid4(), uuid4()
    await connection.execute(
        "INSERT INTO users (id, email, email_key, display_name) VALUES ($1, 'x', $2, '')",
        user_id,
        str(user_id),
    )
    await connection.execute(
        "INSERT INTO tenants (id, name, deleted_at) VALUES ($1, '', now())", tenant_id
    )
    await fill(connection, tenant_id, user_id)
    for table in (
        "reservations",
        "embedding_reservations",
        "uploads",
        "deletions",
        "documents",
        "outbox",
    ):
        await connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", tenant_id)  # noqa: S608
    await connection.execute("UPDATE tenant_deletions SET lease_until = now()")
    await connection.execute("UPDATE sessions SET ended_at = now(), end_reason = 'tenant-deleted'")
    await connection.execute(
        "UPDATE conversations SET id = $2, message_count = 1 WHERE tenant_id = $1",
        tenant_id,
        conversation_id,
    )
    await connection.execute(
        "UPDATE chat_messages SET conversation_id = $2 WHERE tenant_id = $1",
        tenant_id,
        conversation_id,
    )
    return tenant_id, user_id


async def test_a_removal_that_dies_between_any_two_steps_goes_on_and_ends(
    database: Database, admin_database: Database, redis_url: str, tmp_path: Path
) -> None:
    objects = FailingObjects(tmp_path, failures=2)
    redis = Redis.from_url(redis_url)
    log = FailingChatLog(database, ["before", "after"])
    sessions = Sessions()
    stores = TenantStores(database, log, objects, redis)
    removal = TenantRemoval(stores, sessions, lambda: None)  # type: ignore[arg-type]
    async with admin_database.platform() as connection:
        tenant_id, user_id = await closed_tenant(connection)
        bystander, _ = await closed_tenant(connection)
        await connection.execute("DELETE FROM tenant_deletions WHERE tenant_id = $1", bystander)
        untouched = await left_over(connection, bystander)
    await objects.put(document_prefix(tenant_id, uuid4()) + "original", b"left over")
    await redis.set(f"cache:{tenant_id}:answer:x", "1", ex=60)
    await redis.zadd(f"cache:{tenant_id}:index", {f"cache:{tenant_id}:answer:x": 1})

    failures = 0
    while True:
        try:
            await removal.work()
            break
        except (Unavailable, OSError):
            failures += 1
            async with admin_database.platform() as connection:
                await connection.execute("UPDATE tenant_deletions SET lease_until = now()")
    assert failures == 4

    async with admin_database.platform() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM tenant_deletions WHERE tenant_id = $1", tenant_id
        )
        assert row["completed_at"] is not None
        assert (row["files"], row["redis_keys"], row["chat_messages"]) == (1, 1, 1)
        assert row["cache_entries"] == 1
        assert await left_over(connection, tenant_id) == RETAINED
        assert await left_over(connection, bystander) == untouched
    assert user_id in sessions.told
    assert not await redis.keys(f"cache:{tenant_id}:*")
    await redis.aclose()


async def test_two_gateways_work_on_different_tenants(
    database: Database, admin_database: Database
) -> None:
    async with admin_database.platform() as connection:
        for _ in range(2):
            await closed_tenant(connection)
    async with database.platform() as one, database.platform() as other:
        query = "SELECT tenant_id FROM claim_tenant_deletion('1 minute')"
        claimed = {await one.fetchval(query), await other.fetchval(query)}
        assert len(claimed) == 2
        assert await one.fetchval(query) is None


async def test_the_database_refuses_to_erase_a_tenant_that_is_not_deleted(
    database: Database, person: Person
) -> None:
    async with database.platform() as connection:
        with pytest.raises(asyncpg.RaiseError, match="is not deleted"):
            await connection.execute("SELECT erase_tenant($1, 10)", UUID(person.tenant_id))


async def test_what_an_erased_tenant_leaves_is_documented(admin_database: Database) -> None:
    async with admin_database.platform() as connection:
        erased = set(await connection.fetchval("SELECT erasable_tables()"))
        tables = set(await tenant_tables(connection))
    # with memberships; by the sweeper
    removed_before = {"api_keys", "reservations", "embedding_reservations"}
    assert tables == erased | RETAINED | removed_before
    assert [table for table in sorted(RETAINED) if f"`{table}`" not in DOCUMENTATION] == []
