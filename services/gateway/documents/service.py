"""What a person does with documents: upload, look, fetch, delete, and follow a job."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from starlette.datastructures import UploadFile

from planes.shared.domain import Role, TenantContext, new_id, original_key, text_key
from planes.shared.errors import Conflict, Forbidden, NotFound
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Connection, Database
from services.gateway.audit import Action, AuditEvent, record
from services.gateway.auth.models import Account
from services.gateway.documents import repository
from services.gateway.documents.ingestion import IngestionRequests
from services.gateway.documents.repository import DocumentFilter, NewVersion
from services.gateway.documents.schemas import Document, UploadAnswer
from services.gateway.documents.uploads import StoredFile, Uploads
from services.gateway.idempotency.service import Effect
from services.gateway.tracing import current_trace_id


@dataclass(frozen=True, slots=True)
class Labels:
    """What a client attaches to a document."""

    tags: list[str]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Content:
    """A stored object on its way to a client."""

    name: str
    media_type: str
    blocks: AsyncIterator[bytes]


class DocumentService:
    """The gateway's side of the document registry."""

    def __init__(
        self,
        database: Database,
        objects: FolderObjects,
        uploads: Uploads,
        ingestion: IngestionRequests,
    ) -> None:
        """Store the parts."""
        self._database = database
        self._objects = objects
        self._uploads = uploads
        self._ingestion = ingestion

    async def upload(
        self, file: UploadFile, labels: Labels, context: TenantContext, effect: Effect
    ) -> UploadAnswer:
        """Accept a file and return its document and job; known bytes return what is known of them.

        Raises:
            PlatformError: The file is refused (422, 413, 415) or a quota is used up (402); nothing
                stays behind.
        """
        async with self._uploads.receive(file, context) as stored:
            try:
                answer = await self._register(stored, labels, context, effect)
            except asyncpg.UniqueViolationError:  # the same bytes arrived twice at once
                answer = await self._register(stored, labels, context, effect)
            if answer.document.id != stored.document_id:
                await self._uploads.discard(
                    context.tenant_id, stored.document_id, stored.version_id
                )
        self._ingestion.request(current_trace_id())
        return answer

    async def find(self, document_id: UUID, context: TenantContext) -> asyncpg.Record:
        """Return one document.

        Raises:
            NotFound: There is none of that id in this tenant.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find_document(connection, context, document_id)

    async def page(self, wanted: DocumentFilter, context: TenantContext) -> list[asyncpg.Record]:
        """Return a part of the list, newest first."""
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.list_documents(connection, context, wanted)

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
        blocks = self._objects.stream(key)
        try:
            first = await anext(blocks)
        except FileNotFoundError as error:
            raise NotFound("The document's file is gone.") from error
        return Content(version["name"], version["media_type"], _with_first(first, blocks))

    async def delete(self, document_id: UUID, account: Account) -> UUID:
        """Take a document out of search at once, queue its removal, and return the receipt's id.

        Raises:
            NotFound: No such document.
            Forbidden: A member may delete own documents only.
        """
        receipt_id, context = new_id(), account.context
        async with self._database.tenant(context.tenant_id) as connection:
            document = await repository.find_document(connection, context, document_id)
            if account.role.rank < Role.ADMIN.rank and document["owner_id"] != context.user_id:
                raise Forbidden("Members may delete only documents that they uploaded.")
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

    async def job(self, job_id: UUID, context: TenantContext) -> list[asyncpg.Record]:
        """Return a job's documents.

        Raises:
            NotFound: There is no such job in this tenant.
        """
        async with self._database.tenant(context.tenant_id) as connection:
            return await repository.find_job(connection, context, job_id)

    async def _register(
        self, stored: StoredFile, labels: Labels, context: TenantContext, effect: Effect
    ) -> UploadAnswer:
        """Make the file a document and close its intent, in one transaction."""
        async with self._database.tenant(context.tenant_id) as connection:
            row = await repository.find_by_content(connection, context, stored.sha256)
            if row is not None:
                job_id = await self._job_of_known(connection, row, stored, context)
            else:
                new = _new_version(stored, labels)
                await self._insert(connection, new, context)
                row = await repository.find_document(connection, context, new.document_id)
                job_id = new.job_id
            answer = UploadAnswer(document=Document.of(row), job_id=job_id)
            await effect.record(connection, 202, answer)
        return answer

    async def _insert(
        self, connection: Connection, new: NewVersion, context: TenantContext
    ) -> None:
        await repository.take_document_quota(connection, context, new.size_bytes)
        await repository.insert_document(connection, context, new)
        item = (new.document_id, new.version_id)
        await repository.insert_job(connection, context, new.job_id, item)
        if not await repository.close_upload(connection, new.version_id):
            raise Conflict("The upload took too long and was discarded. Upload it again.")

    async def _job_of_known(
        self,
        connection: Connection,
        known: asyncpg.Record,
        stored: StoredFile,
        context: TenantContext,
    ) -> UUID:
        """Return the last job of known bytes; a failed document is tried again under a new one.

        The bytes that came now take the place of its file, should that have been damaged.
        """
        version_id = known["newest_version_id"]
        if known["status"] not in ("failed", "cancelled"):
            job_id = await repository.last_job_of(connection, version_id)
            if job_id is not None:
                return job_id
        job_id = new_id()
        await self._objects.copy(
            original_key(context.tenant_id, stored.document_id, stored.version_id),
            original_key(context.tenant_id, known["id"], version_id),
        )
        await repository.requeue_version(connection, version_id)
        await repository.insert_job(connection, context, job_id, (known["id"], version_id))
        return job_id


def _deleted(account: Account, document_id: UUID, receipt_id: UUID) -> AuditEvent:
    return AuditEvent(
        account.context.tenant_id,
        Action.DOCUMENT_DELETED,
        account,
        subject=f"document:{document_id}",
        details={"receipt": str(receipt_id)},
    )


def _new_version(stored: StoredFile, labels: Labels) -> NewVersion:
    return NewVersion(
        document_id=stored.document_id,
        version_id=stored.version_id,
        job_id=new_id(),
        name=stored.name,
        media_type=stored.media_type,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        tags=labels.tags,
        metadata=labels.metadata,
        trace_id=current_trace_id(),
    )


async def _with_first(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for block in rest:
        yield block
