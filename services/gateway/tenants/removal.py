"""Working off deleted tenants: one after the other, step by step, from any point again.

Steps wait for one another instead of undoing each other's work: answers end, then documents go by
the way of every deleted document, then messages once they have arrived in the chat log, then rows,
leftover files and Redis keys. A step that finds nothing left to do passes on; a crash between two
steps costs the time of the lease, no more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from redis.asyncio import Redis

from planes.shared.errors import Unavailable
from planes.shared.ports import ChatLog, ObjectStore
from planes.shared.stores.postgres import Database
from planes.shared.stores.redis_caches import is_entry
from planes.shared.stores.redis_clients import REDIS_ERRORS
from services.gateway.auth.sessions import Sessions
from services.gateway.tenants import deletion_repository as repository
from services.gateway.tenants.deletion import tell_all

_LEASE = timedelta(seconds=120)
_LATER = timedelta(seconds=3)
_DOCUMENTS_AT_ONCE = 500
_CONVERSATIONS_AT_ONCE = 100
_ROWS_AT_ONCE = 2000
_KEYS_AT_ONCE = 500
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class TenantStores:
    """Every store that holds something of a tenant."""

    database: Database
    chat_log: ChatLog
    objects: ObjectStore
    redis: Redis


class TenantRemoval:
    """Removes what deleted tenants left in the stores."""

    def __init__(
        self, stores: TenantStores, sessions: Sessions, request_removal: Callable[[], None]
    ) -> None:
        """Store the parts; `request_removal` asks the data plane to remove deleted documents."""
        self._stores = stores
        self._database = stores.database
        self._sessions = sessions
        self._request_removal = request_removal

    async def work(self) -> None:
        """Take every removal that is due as far as it goes now.

        Raises:
            Unavailable: A store does not answer; that removal is tried again.
            OSError: A file cannot be removed; the same.
        """
        while True:
            async with self._database.platform() as connection:
                row = await repository.claim(connection, _LEASE)
            if row is None:
                return
            await self._work_on(row["tenant_id"], row["requested_by"])

    async def _work_on(self, tenant_id: UUID, user_id: UUID) -> None:
        try:
            is_complete = await self._remove(tenant_id, user_id)
        except (Unavailable, OSError):
            await self._put_off(tenant_id)
            raise
        if not is_complete:
            await self._put_off(tenant_id)
            return
        async with self._database.tenant(tenant_id) as connection:
            await repository.complete(connection, tenant_id)
        _log.info("tenant removed", tenant_id=str(tenant_id))

    async def _put_off(self, tenant_id: UUID) -> None:
        async with self._database.tenant(tenant_id) as connection:
            await repository.put_off(connection, tenant_id, _LATER)

    async def _remove(self, tenant_id: UUID, user_id: UUID) -> bool:
        """Return whether nothing is left."""
        await self._end_sessions(tenant_id)
        async with self._database.tenant(tenant_id) as connection:
            if await repository.is_answering(connection, tenant_id):
                return False
        if not await self._remove_documents(tenant_id, user_id):
            return False
        if not await self._remove_conversations(tenant_id):
            return False
        await self._erase_rows(tenant_id)
        await self._remove_leftovers(tenant_id)
        return True

    async def _end_sessions(self, tenant_id: UUID) -> None:
        """Tell again what the deletion ended, should its gateway have died before it could."""
        async with self._database.tenant(tenant_id) as connection:
            ended = await repository.sessions_of(connection, tenant_id)
        await tell_all(self._sessions, ended)

    async def _remove_documents(self, tenant_id: UUID, user_id: UUID) -> bool:
        is_more = True
        while is_more:
            async with self._database.tenant(tenant_id) as connection:
                count = await repository.tombstone_documents(
                    connection, tenant_id, user_id, _DOCUMENTS_AT_ONCE
                )
                is_more = count == _DOCUMENTS_AT_ONCE
        async with self._database.tenant(tenant_id) as connection:
            if await repository.has_open_work(connection, tenant_id):
                self._request_removal()
                return False
            await repository.count_documents(connection, tenant_id)
        return True

    async def _remove_conversations(self, tenant_id: UUID) -> bool:
        while True:
            async with self._database.tenant(tenant_id) as connection:
                found = await repository.idle_conversations(
                    connection, tenant_id, _CONVERSATIONS_AT_ONCE
                )
                if not found:
                    return not await repository.has_conversations(connection, tenant_id)
            for conversation_id in found:
                log = self._stores.chat_log
                messages = await log.remove_conversation(tenant_id, conversation_id)
                async with self._database.tenant(tenant_id) as connection:
                    await repository.forget_conversation(
                        connection, tenant_id, conversation_id, messages
                    )

    async def _erase_rows(self, tenant_id: UUID) -> None:
        erased = 1
        while erased:
            async with self._database.tenant(tenant_id) as connection:
                erased = await repository.erase(connection, tenant_id, _ROWS_AT_ONCE)

    async def _remove_leftovers(self, tenant_id: UUID) -> None:
        files = await self._stores.objects.remove_prefix(f"{tenant_id}/")
        entries, keys = await self._remove_keys(tenant_id)
        async with self._database.tenant(tenant_id) as connection:
            await repository.add_removed(
                connection, tenant_id, files=files, cache_entries=entries, keys=keys
            )

    async def _remove_keys(self, tenant_id: UUID) -> tuple[int, int]:
        """Remove what carries the tenant in its key; the rest belongs to people, and expires.

        Returns:
            How many entries of caches there were, and how many other keys.
        """
        redis, removed = self._stores.redis, {True: 0, False: 0}
        try:
            async for key in redis.scan_iter(match=f"*{tenant_id}*", count=_KEYS_AT_ONCE):
                removed[is_entry(key)] += await redis.unlink(key)
        except REDIS_ERRORS as error:
            raise Unavailable("Redis does not answer.") from error
        return removed[True], removed[False]
