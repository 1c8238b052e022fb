"""Making stored files documents: known bytes are the document that exists, all in one job."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import asyncpg
from pydantic import BaseModel

from planes.shared.domain import TenantContext, new_id, original_key
from planes.shared.errors import Conflict, PlatformError
from planes.shared.ports import ObjectStore
from planes.shared.stores.postgres import Connection, Database
from services.gateway.documents import intents, quotas
from services.gateway.documents import registration_repository as repository
from services.gateway.documents.ingestion import IngestionRequests
from services.gateway.documents.registration_repository import Submission
from services.gateway.documents.repository import last_job_of
from services.gateway.documents.uploads import StoredFile
from services.gateway.idempotency.service import Effect
from services.gateway.tracing import current_trace_id

_TRIES = 5
TRIED_AGAIN = frozenset({"failed", "cancelled"})
Answer = TypeVar("Answer", bound=BaseModel)
TOO_SLOW = "The upload took too long and was discarded. Upload it again."


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file that cannot be taken, and why."""

    name: str
    problem: PlatformError


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of stored files.

    Attributes:
        job_id: The job that makes the documents searchable; None where there is no document.
        documents: As they are now, each once, in the order of the files.
        refusals: Of files for which the quota did not suffice.
    """

    job_id: UUID | None
    documents: list[asyncpg.Record]
    refusals: list[Refusal] = field(default_factory=list)


class Registrar:
    """Turns stored files into documents with a job, and answers, in one transaction."""

    def __init__(
        self, database: Database, objects: ObjectStore, ingestion: IngestionRequests
    ) -> None:
        """Store the parts."""
        self._database = database
        self._objects = objects
        self._ingestion = ingestion

    async def register(
        self,
        submissions: Sequence[Submission],
        context: TenantContext,
        effect: Effect,
        answer: Callable[[Registered], Answer],
    ) -> Answer:
        """Register files whose tags are the same, and record what `answer` makes of the outcome.

        Nothing stays where `answer` raises.

        Raises:
            Conflict: The sweeper was faster, or the same files arrive again and again.
            NotFound: The tenant was deleted meanwhile.
        """
        for _ in range(_TRIES):
            try:
                async with self._database.tenant(context.tenant_id) as connection:
                    outcome = answer(await self._register(connection, submissions, context))
                    await effect.record(connection, 202, outcome)
            except asyncpg.UniqueViolationError:  # the same bytes arrived twice at once
                continue
            self._ingestion.request(current_trace_id())
            return outcome
        raise Conflict("The same files are being uploaded elsewhere.", retry_after_s=2)

    async def retry(
        self,
        connection: Connection,
        context: TenantContext,
        known: Sequence[tuple[asyncpg.Record, StoredFile]],
    ) -> None:
        """Make the newest versions of failed documents wait again, with the bytes that came now.

        They take the place of the files that are there, should those have been damaged.
        """
        for row, file in known:
            await self._objects.move(
                original_key(context.tenant_id, file.document_id, file.version_id),
                original_key(context.tenant_id, row["id"], row["newest_version_id"]),
            )
        await repository.requeue(connection, [row["newest_version_id"] for row, _ in known])

    async def _register(
        self, connection: Connection, submissions: Sequence[Submission], context: TenantContext
    ) -> Registered:
        by_content: dict[bytes, Submission] = {}
        for each in submissions:
            by_content.setdefault(each.file.sha256, each)
        known = {
            row["sha256"]: row
            for row in await repository.find_by_content(connection, context, by_content)
        }
        added, refusals = await self._add(
            connection, [each for key, each in by_content.items() if key not in known], context
        )
        failed = [
            (row, by_content[key].file)
            for key, row in known.items()
            if row["status"] in TRIED_AGAIN
        ]
        await self.retry(connection, context, failed)
        items = {each.file.sha256: (each.file.document_id, each.file.version_id) for each in added}
        items |= {key: (row["id"], row["newest_version_id"]) for key, row in known.items()}
        ordered = [items[key] for key in by_content if key in items]
        job_id = await _job(connection, context, ordered, is_new=bool(added or failed))
        rows = await repository.find_documents(connection, context, [each[0] for each in ordered])
        return Registered(job_id, [rows[document_id] for document_id, _ in ordered], refusals)

    async def _add(
        self, connection: Connection, new: list[Submission], context: TenantContext
    ) -> tuple[list[Submission], list[Refusal]]:
        """Insert what the quota allows and close its intents."""
        if not new:
            return [], []
        outcomes = await quotas.take(connection, context, [each.file.size_bytes for each in new])
        pairs = list(zip(new, outcomes, strict=True))
        added = [each for each, problem in pairs if problem is None]
        await repository.insert_documents(connection, context, added, current_trace_id())
        versions = [each.file.version_id for each in added]
        if len(await intents.close(connection, versions)) < len(versions):
            raise Conflict(TOO_SLOW)
        return added, [Refusal(each.file.name, problem) for each, problem in pairs if problem]


async def _job(
    connection: Connection,
    context: TenantContext,
    items: list[tuple[UUID, UUID]],
    *,
    is_new: bool,
) -> UUID | None:
    """Return the job over these documents: a single known one keeps its last."""
    if not items:
        return None
    if not is_new and len(items) == 1:
        last = await last_job_of(connection, items[0][1])
        if last is not None:
            return last
    job_id = new_id()
    await repository.insert_job(connection, context, job_id, items)
    return job_id
