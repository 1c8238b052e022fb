"""What the platform knows of one person, for that person."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from planes.shared.domain import TenantContext
from planes.shared.stores.postgres import Database
from services.gateway.audit import Action, AuditEvent
from services.gateway.auth.account_repository import memberships
from services.gateway.auth.models import Account
from services.gateway.chat.conversations import ConversationService
from services.gateway.tenants.archive import Archive
from services.gateway.tenants.export import leased
from services.gateway.tenants.export_sources import ACCOUNT_SOURCES, PERSONAL_SOURCES, pages
from services.gateway.tenants.leases import ExportLease

_CONVERSATIONS_A_PAGE = 100
_MESSAGES_A_PAGE = 50


class AccountExport:
    """Streams a person's data, in all tenants that the person belongs to, as one archive."""

    def __init__(
        self, database: Database, conversations: ConversationService, new_id: Callable[[], UUID]
    ) -> None:
        """Store where data is."""
        self._database = database
        self._conversations = conversations
        self._new_id = new_id

    async def begin(self, account: Account) -> AsyncGenerator[bytes, None]:
        """Return the archive's bytes; the export ends with the generator.

        Raises:
            Conflict: An export of the person's data is under way.
        """
        user_id = account.context.user_id
        lease = ExportLease(self._database, account, user_id, self._new_id())
        event = AuditEvent(
            account.context.tenant_id, Action.USER_EXPORTED, account, subject=f"user:{user_id}"
        )
        await lease.take(event)
        return leased(lease, self._archive(account.context))

    async def _archive(self, context: TenantContext) -> AsyncGenerator[bytes, None]:
        about: dict[str, object] = {"kind": "person", "user_id": context.user_id}
        archive = Archive(about, datetime.now(UTC))
        for source in ACCOUNT_SOURCES:
            rows = pages(self._database, source, context)
            async for block in archive.table(source.name, rows):
                yield block
        async with self._database.tenant(None, context.user_id) as connection:
            tenants = await memberships(connection, context.user_id)
        for tenant_id in tenants:
            there = TenantContext(tenant_id=tenant_id, user_id=context.user_id)
            async for block in self._tenant(archive, there):
                yield block
        yield archive.end()

    async def _tenant(
        self, archive: Archive, context: TenantContext
    ) -> AsyncGenerator[bytes, None]:
        folder = f"tenants/{context.tenant_id}"
        for source in PERSONAL_SOURCES:
            rows = pages(self._database, source, context)
            async for block in archive.table(f"{folder}/{source.name}", rows):
                yield block
        async for block in archive.table(f"{folder}/conversations", self._own(context)):
            yield block
        async for block in archive.table(f"{folder}/messages", self._messages(context)):
            yield block

    async def _own(self, context: TenantContext) -> AsyncGenerator[list[dict[str, Any]], None]:
        for is_listed in (True, False):
            last: UUID | None = None
            rows_of_page = _CONVERSATIONS_A_PAGE
            while rows_of_page == _CONVERSATIONS_A_PAGE:
                rows = await self._conversations.page(
                    context, last, _CONVERSATIONS_A_PAGE, is_listed=is_listed
                )
                yield [dict(row) for row in rows]
                rows_of_page = len(rows)
                last = rows[-1]["id"] if rows else None

    async def _messages(
        self, context: TenantContext
    ) -> AsyncGenerator[Sequence[dict[str, Any]], None]:
        async for conversations in self._own(context):
            for conversation in conversations:
                after_seq = 0
                while found := await self._conversations.messages(
                    context, conversation["id"], after_seq=after_seq, limit=_MESSAGES_A_PAGE
                ):
                    yield [asdict(message) for message in found]
                    after_seq = found[-1].seq
