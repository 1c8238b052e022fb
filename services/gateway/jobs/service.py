"""What a person does with jobs: follow them, cancel them, and have documents processed again."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from planes.shared.domain import Role, new_id, original_key
from planes.shared.errors import Conflict, Forbidden, NotFound
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Connection, Database
from services.gateway.auth.models import Account
from services.gateway.documents import intents, quotas
from services.gateway.documents import registration_repository as registration
from services.gateway.documents.ingestion import IngestionRequests
from services.gateway.documents.ownership import check_may_change
from services.gateway.documents.repository import find_document
from services.gateway.documents.uploads import StoredFile, Uploads
from services.gateway.idempotency.service import Effect
from services.gateway.jobs import repository
from services.gateway.jobs.repository import FailedFilter
from services.gateway.jobs.schemas import Job, ProcessAnswer, ProcessInput
from services.gateway.tracing import current_trace_id

_AT_ONCE = 1000  # documents in one transaction
_CHANGED = "The document has just changed. Send the request again."
_TOO_SLOW = "Copying the file took too long. Send the request again."
_FILE_GONE = "The document's file is no longer stored, or damaged. Upload it again."


@dataclass(frozen=True, slots=True)
class JobStores:
    """Where jobs, their documents and their files are."""

    database: Database
    objects: ObjectStore
    uploads: Uploads


class JobService:
    """The gateway's side of jobs."""

    def __init__(self, stores: JobStores, ingestion: IngestionRequests) -> None:
        """Store the parts."""
        self._stores = stores
        self._database = stores.database
        self._ingestion = ingestion

    async def find(self, job_id: UUID, account: Account) -> Job:
        """Return a job with its documents.

        Raises:
            NotFound: There is no such job in this tenant.
        """
        async with self._database.tenant(account.context.tenant_id) as connection:
            return Job.of(job_id, await repository.find(connection, account.context, job_id))

    async def cancel(self, job_id: UUID, account: Account, effect: Effect) -> Job:
        """Stop a job's unfinished documents and return the job; a finished one stays as it is.

        Raises:
            NotFound: There is no such job in this tenant.
            Forbidden: A member may cancel own jobs only.
        """
        tenant_id = account.context.tenant_id
        async with self._database.tenant(tenant_id) as connection:
            maker = await repository.maker_of(connection, account.context, job_id)
        if _is_below_admin(account) and maker != account.context.user_id:
            raise Forbidden("Members may cancel only jobs that they started.")
        await self._cancel(tenant_id, job_id)
        async with self._database.tenant(tenant_id) as connection:
            job = Job.of(job_id, await repository.find(connection, account.context, job_id))
            await effect.record(connection, 202, job)
        self._ingestion.request(current_trace_id())  # a run removes what was written of them
        return job

    async def finish_cancelling(self) -> None:
        """End the cancellation of large jobs whose gateway died in the midst of it."""
        for tenant_id, job_id in await repository.half_cancelled(self._database):
            await self._cancel(tenant_id, job_id)

    async def _cancel(self, tenant_id: UUID, job_id: UUID) -> None:
        are_left = True
        while are_left:
            async with self._database.tenant(tenant_id) as connection:
                are_left = await repository.cancel(connection, job_id, _AT_ONCE)

    async def process(
        self, wanted: ProcessInput, account: Account, effect: Effect
    ) -> ProcessAnswer:
        """Process documents again.

        Raises:
            NotFound: There is no such document.
            Forbidden: A member may have own documents processed only.
            Conflict: Nothing has failed, the file is gone, or another request was faster.
            QuotaExceeded: The storage is used up.
        """
        if wanted.document_id is None:
            answer = await self._retry_failed(wanted.tags, account, effect)
        else:
            answer = await self._process_one(wanted.document_id, account, effect)
        self._ingestion.request(current_trace_id())
        return answer

    async def _retry_failed(
        self, tags: list[str] | None, account: Account, effect: Effect
    ) -> ProcessAnswer:
        """Add all that has failed to one job, a part at a time: each is a short transaction."""
        context, count, job_id = account.context, 0, new_id()
        owner_id = context.user_id if _is_below_admin(account) else None
        wanted = FailedFilter(owner_id, tags)
        while True:
            async with self._database.tenant(context.tenant_id) as connection:
                items = await repository.failed_versions(connection, context, wanted, _AT_ONCE)
                await repository.requeue(connection, [version_id for _, version_id in items])
                if count:
                    await repository.add_items(connection, context, job_id, items)
                elif items:
                    await registration.insert_job(connection, context, job_id, items)
                else:
                    raise Conflict("No document has failed.")
                count += len(items)
                if len(items) < _AT_ONCE:
                    answer = ProcessAnswer(job_id=job_id, documents=count)
                    await effect.record(connection, 202, answer)
                    return answer

    async def _process_one(
        self, document_id: UUID, account: Account, effect: Effect
    ) -> ProcessAnswer:
        async with self._database.tenant(account.context.tenant_id) as connection:
            document = await find_document(connection, account.context, document_id)
            check_may_change(document, account, "process")
            if document["status"] != "ready":
                return await self._process_unpublished(connection, document_id, account, effect)
        return await self._process_published(document, account, effect)

    async def _process_unpublished(
        self, connection: Connection, document_id: UUID, account: Account, effect: Effect
    ) -> ProcessAnswer:
        """Try a version again that search never showed; where work is under way, join it."""
        locked = await self._lock(connection, document_id, account)
        if locked["status"] == "ready":
            raise Conflict(_CHANGED)
        version_id = locked["newest_version_id"]
        await repository.requeue(connection, [version_id])
        job_id = await repository.open_job_of(connection, version_id)
        if job_id is not None:
            answer = ProcessAnswer(job_id=job_id, documents=1)
            await effect.record(connection, 202, answer)
            return answer
        return await self._with_job(connection, [(document_id, version_id)], account, effect)

    async def _process_published(
        self, document: asyncpg.Record, account: Account, effect: Effect
    ) -> ProcessAnswer:
        """Process searchable bytes as a new version: search shows the old one until it is ready.

        In place, the old chunks would be replaced one by one: they have the ids that the new ones
        get. So the new version has a copy of the file, which counts as storage.
        """
        context, document_id = account.context, document["id"]
        async with self._stores.uploads.session(context, document_id=document_id) as session:
            key = original_key(context.tenant_id, document_id, document["newest_version_id"])
            blocks = self._stores.objects.stream(key)
            try:
                stored = await session.store_known(
                    document["name"], document["media_type"], lambda: _next_block(blocks)
                )
            except FileNotFoundError as error:
                raise Conflict(_FILE_GONE) from error
            finally:
                await blocks.aclose()
            if stored.sha256 != document["sha256"]:
                raise Conflict(_FILE_GONE)
            async with self._database.tenant(context.tenant_id) as connection:
                locked = await self._lock(connection, document_id, account)
                if locked["newest_version_id"] != document["newest_version_id"]:
                    raise Conflict(_CHANGED)
                number = locked["number"] + 1
                return await self._add_version(connection, (stored, number), account, effect)

    async def _add_version(
        self, connection: Connection, new: tuple[StoredFile, int], account: Account, effect: Effect
    ) -> ProcessAnswer:
        context, (stored, number) = account.context, new
        (problem,) = await quotas.take(connection, context, [stored.size_bytes], documents_each=0)
        if problem is not None:
            raise problem
        await registration.insert_version(connection, context, stored, (number, current_trace_id()))
        if not await intents.close(connection, [stored.version_id]):
            raise Conflict(_TOO_SLOW)
        item = (stored.document_id, stored.version_id)
        return await self._with_job(connection, [item], account, effect)

    async def _with_job(
        self,
        connection: Connection,
        items: list[tuple[UUID, UUID]],
        account: Account,
        effect: Effect,
    ) -> ProcessAnswer:
        answer = ProcessAnswer(job_id=new_id(), documents=len(items))
        await registration.insert_job(connection, account.context, answer.job_id, items)
        await effect.record(connection, 202, answer)
        return answer

    async def _lock(
        self, connection: Connection, document_id: UUID, account: Account
    ) -> asyncpg.Record:
        row = await registration.lock_document(connection, account.context, document_id)
        if row is None:
            raise NotFound("There is no such document.")
        return row


def _is_below_admin(account: Account) -> bool:
    return account.role.rank < Role.ADMIN.rank


async def _next_block(blocks: AsyncGenerator[bytes, None]) -> bytes:
    return await anext(blocks, b"")
