"""New versions of documents, and changes of what people call and attach to them."""

from typing import Any
from uuid import UUID

import asyncpg

from planes.shared.domain import new_id
from planes.shared.errors import Conflict, NotFound
from planes.shared.stores.postgres import Connection, Database
from services.gateway.auth.models import Account
from services.gateway.documents import intents, quotas
from services.gateway.documents import registration_repository as repository
from services.gateway.documents.ingestion import IngestionRequests
from services.gateway.documents.ownership import check_may_change
from services.gateway.documents.registration import TOO_SLOW, TRIED_AGAIN, Registrar
from services.gateway.documents.repository import find_document, last_job_of
from services.gateway.documents.schemas import Document, UploadAnswer
from services.gateway.documents.uploads import StoredFile
from services.gateway.idempotency.service import Effect
from services.gateway.tracing import current_trace_id


class Versions:
    """Changes documents; the published version is searchable until the next one is."""

    def __init__(
        self, database: Database, registrar: Registrar, ingestion: IngestionRequests
    ) -> None:
        """Store the parts."""
        self._database = database
        self._registrar = registrar
        self._ingestion = ingestion

    async def check(self, document_id: UUID, account: Account) -> None:
        """Refuse before a file is received what would be refused after.

        Raises:
            NotFound: No such document.
            Forbidden: A member may replace own documents only.
        """
        async with self._database.tenant(account.context.tenant_id) as connection:
            document = await find_document(connection, account.context, document_id)
        check_may_change(document, account, "replace")

    async def replace(self, file: StoredFile, account: Account, effect: Effect) -> UploadAnswer:
        """Make a stored file the next version of its document.

        Content that the document has already makes no version; if processing it failed, it is
        tried again.

        Raises:
            NotFound: No such document.
            Forbidden: A member may replace own documents only.
            Conflict: Another document has this content.
            QuotaExceeded: Of storage.
        """
        try:
            async with self._database.tenant(account.context.tenant_id) as connection:
                job_id = await self._replace(connection, file, account)
                row = await find_document(connection, account.context, file.document_id)
                answer = UploadAnswer(document=Document.of(row), job_id=job_id)
                await effect.record(connection, 202, answer)
        except asyncpg.UniqueViolationError as error:
            raise Conflict("Another document has this content.") from error
        self._ingestion.request(current_trace_id())
        return answer

    async def change(
        self, document_id: UUID, changes: dict[str, Any], account: Account
    ) -> asyncpg.Record:
        """Set `name`, `tags` or `metadata` and return the document.

        Raises:
            NotFound: No such document.
            Forbidden: A member may change own documents only.
        """
        async with self._database.tenant(account.context.tenant_id) as connection:
            locked = await self._lock(connection, document_id, account)
            check_may_change(locked, account, "change")
            if changes:
                await repository.change_document(connection, account.context, document_id, changes)
            return await find_document(connection, account.context, document_id)

    async def _replace(self, connection: Connection, file: StoredFile, account: Account) -> UUID:
        """Return the job that makes the content searchable."""
        document = await self._lock(connection, file.document_id, account)
        check_may_change(document, account, "replace")
        has_failed = document["status"] in TRIED_AGAIN
        if file.sha256 == document["sha256"]:
            if has_failed:
                await self._registrar.retry(connection, account.context, [(document, file)])
                return await self._job(connection, file, document["newest_version_id"], account)
            return await self._last_job(connection, file, document["newest_version_id"], account)
        if has_failed and file.sha256 == document["published_sha256"]:
            return await self._last_job(connection, file, document["published_version_id"], account)
        return await self._add(connection, file, document["number"] + 1, account)

    async def _add(
        self, connection: Connection, file: StoredFile, number: int, account: Account
    ) -> UUID:
        context = account.context
        (problem,) = await quotas.take(connection, context, [file.size_bytes], documents_each=0)
        if problem is not None:
            raise problem
        place = (number, current_trace_id())
        await repository.insert_version(connection, context, file, place)
        if not await intents.close(connection, [file.version_id]):
            raise Conflict(TOO_SLOW)
        return await self._job(connection, file, file.version_id, account)

    async def _last_job(
        self, connection: Connection, file: StoredFile, version_id: UUID, account: Account
    ) -> UUID:
        last = await last_job_of(connection, version_id)
        return last or await self._job(connection, file, version_id, account)

    async def _job(
        self, connection: Connection, file: StoredFile, version_id: UUID, account: Account
    ) -> UUID:
        job_id, items = new_id(), [(file.document_id, version_id)]
        await repository.insert_job(connection, account.context, job_id, items)
        return job_id

    async def _lock(
        self, connection: Connection, document_id: UUID, account: Account
    ) -> asyncpg.Record:
        row = await repository.lock_document(connection, account.context, document_id)
        if row is None:
            raise NotFound("There is no such document.")
        return row
