"""What a person does with documents: upload, look, fetch and delete."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import asyncpg

from planes.shared.domain import TenantContext, new_id, original_key, text_key
from planes.shared.errors import Conflict, NotFound
from planes.shared.ports import ObjectStat, ObjectStore
from planes.shared.stores.postgres import Database
from planes.shared.stores.postgres_replica import ListReads
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.documents import repository
from services.gateway.documents.ingestion import IngestionRequests
from services.gateway.documents.ownership import check_may_change
from services.gateway.documents.repository import DocumentFilter
from services.gateway.tracing import current_trace_id


@dataclass(frozen=True, slots=True)
class Content:
    """An uploaded file as it stands in the object store; `blocks(start, end)` streams a part."""

    name: str
    media_type: str
    stat: ObjectStat
    blocks: Callable[[int, int], AsyncGenerator[bytes, None]]


class DocumentService:
    """The gateway's side of the document registry."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        ingestion: IngestionRequests,
        lists: ListReads | None = None,
    ) -> None:
        """Store the parts; without `lists` the list is read from the database too."""
        self._database = database
        self._lists = lists or ListReads(database)
        self._objects = objects
        self._ingestion = ingestion

    async def find(self, document_id: UUID, context: TenantContext) -> asyncpg.Record:
        """Return one document.

        Raises:
            NotFound: There is none of that id in this tenant.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find_document(connection, context, document_id)

    async def page(self, wanted: DocumentFilter, context: TenantContext) -> list[asyncpg.Record]:
        """Return a part of the list, newest first; it may be a moment old."""
        return await self._lists.read(
            context.tenant_id,
            lambda connection: repository.list_documents(connection, context, wanted),
        )

    async def text(self, document_id: UUID, number: int | None, context: TenantContext) -> bytes:
        """Return the extracted text that citations point into, as UTF-8.

        Raises:
            NotFound: No such document or version.
            Conflict: The text is not extracted yet, or never will be.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            version = await repository.find_version(connection, context, document_id, number)
        try:
            return await self._objects.get(text_key(context.tenant_id, document_id, version["id"]))
        except FileNotFoundError as error:
            raise Conflict(
                f"The document has no text yet; its status is {version['status']}."
            ) from error

    async def content(self, document_id: UUID, context: TenantContext) -> Content:
        """Return the original file.

        Raises:
            NotFound: No such document.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            version = await repository.find_version(connection, context, document_id, None)
        key = original_key(context.tenant_id, document_id, version["id"])
        try:
            stat = await self._objects.stat(key)
        except FileNotFoundError as error:
            raise NotFound("The document's file is gone.") from error
        blocks = partial(self._objects.stream, key)
        return Content(version["name"], version["media_type"], stat, blocks)

    async def delete(self, document_id: UUID, account: Account) -> UUID:
        """Take a document out of search at once, queue its removal, and return the receipt's id.

        Raises:
            NotFound: No such document.
            Forbidden: A member may delete own documents only.
        """
        receipt_id, context = new_id(), account.context
        async with self._database.tenant(context.tenant_id) as connection:
            document = await repository.find_document(connection, context, document_id)
            check_may_change(document, account, "delete")
            if not await repository.tombstone(connection, context, document_id, receipt_id):
                raise NotFound("There is no such document.")
            await record(connection, _deleted(account, document_id, receipt_id))
        self._ingestion.request(current_trace_id())
        return receipt_id

    async def receipt(self, document_id: UUID, context: TenantContext) -> asyncpg.Record:
        """Return what a deletion has removed so far.

        Raises:
            NotFound: Nobody deleted such a document in this tenant.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find_receipt(connection, context, document_id)


def _deleted(account: Account, document_id: UUID, receipt_id: UUID) -> AuditEvent:
    return AuditEvent(
        account.context.tenant_id,
        Action.DOCUMENT_DELETED,
        account,
        subject=f"document:{document_id}",
        details={"receipt": str(receipt_id)},
    )
