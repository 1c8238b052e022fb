"""What the registry, the index, the chat log and the object store hold, read past every right.

Chunks and messages are read through their ports, so that it is the same wherever they are kept.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.exc import OperationalError

from planes.shared.domain import ChatMessage, Chunk
from planes.shared.index_ports import ChunkStore, Vectors
from planes.shared.ports import ChatLog
from planes.shared.stores.chat_log_settings import ChatLogSettings, open_chat_log
from planes.shared.stores.chunk_settings import ChunkStoreSettings, chunk_store
from planes.shared.stores.postgres import Database
from services.embedded.schema import owner_connection
from tests.e2e.conftest import RunningPlatform

_GENERATION = 1
_MESSAGES = 1000

_UNSETTLED = """
SELECT concat_ws(' ', 'version', v.id, v.status, v.visibility, 'attempt', v.attempts)
FROM document_versions v JOIN documents d ON d.id = v.document_id
WHERE v.tenant_id = ANY (:tenants) AND d.deleted_at IS NULL
  AND (v.status IN ('received', 'parsing', 'embedding') OR v.visibility = 'hidden')
UNION ALL
SELECT concat_ws(' ', 'deletion', d.document_id) FROM deletions d
WHERE d.tenant_id = ANY (:tenants) AND d.completed_at IS NULL
UNION ALL
SELECT concat_ws(' ', 'upload', u.version_id) FROM uploads u WHERE u.tenant_id = ANY (:tenants)
"""  # an upload that was refused half-way is swept when its intent expires


_VERSIONS_OF = "SELECT id FROM document_versions WHERE document_id = :document"
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Indexed:
    """A chunk with its vector, as the index has it."""

    chunk: Chunk
    vector: Vectors

    @property
    def digest(self) -> str:
        """All of it, bit for bit."""
        return f"{self.chunk} {self.vector.tobytes().hex()}"


class Records:
    """Reads the stores of a running platform."""

    def __init__(self, platform: RunningPlatform) -> None:
        """Store the platform."""
        self._url = platform.owner_url
        self._environment = platform.environment
        self.objects = platform.objects

    def rows(self, query: str, **values: object) -> Sequence[RowMapping]:
        """Return what a query finds.

        Raises:
            OperationalError: The database is away.
        """
        with owner_connection(self._url) as connection:
            return connection.execute(text(query), values).mappings().all()

    def values(self, query: str, **values: object) -> list[Any]:
        """Return the first column of what a query finds."""
        return [next(iter(row.values())) for row in self.rows(query, **values)]

    def chunks(self, tenant_id: str) -> list[Indexed]:
        """Return all chunks of a tenant, by version and ordinal.

        Raises:
            AssertionError: A version has another chunk than those of the lowest ordinals.
        """
        tenant = UUID(tenant_id)

        async def read(store: ChunkStore) -> list[Indexed]:
            found: list[Chunk] = []
            async for counts in store.version_counts(tenant, generation=_GENERATION):
                places = [(one.version_id, n) for one in counts for n in range(one.chunks)]
                found += await store.chunks_at(tenant, places, generation=_GENERATION)
                assert len(places) == sum(one.places for one in counts), "chunks are there twice"
                assert {(each.version_id, each.ordinal) for each in found} >= set(places)
            ids = [chunk.id for chunk in found]
            vectors = await store.vectors(tenant, ids, generation=_GENERATION)
            found.sort(key=lambda chunk: (chunk.version_id, chunk.ordinal))
            return [Indexed(chunk, vectors[chunk.id]) for chunk in found]

        return self._with_chunks(read)

    def count_chunks(self, tenant_id: str, document_id: str) -> int:
        """Return how many chunks a document has in all generations, whatever its versions."""
        versions = self.values(_VERSIONS_OF, document=UUID(document_id))
        return self._with_chunks(lambda store: store.count_everywhere(UUID(tenant_id), versions))

    def messages(self, tenant_id: UUID, conversation_ids: Sequence[UUID]) -> list[ChatMessage]:
        """Return the messages of conversations that the chat log holds, in their order."""
        return self.messages_of({tenant_id: conversation_ids})[tenant_id]

    def messages_of(
        self, conversations: Mapping[UUID, Sequence[UUID]]
    ) -> dict[UUID, list[ChatMessage]]:
        """Return the messages of several tenants' conversations, in their order."""

        async def read(log: ChatLog, tenant_id: UUID) -> list[ChatMessage]:
            pages = [
                await log.page(tenant_id, one, after_seq=0, limit=_MESSAGES)
                for one in conversations[tenant_id]
            ]
            return [message for page in pages for message in page]

        async def opened(database: Database) -> dict[UUID, list[ChatMessage]]:
            settings = ChatLogSettings.of(self._environment)
            async with open_chat_log(settings, database) as log:
                return {one: await read(log, one) for one in conversations}

        return self._with_database(opened)

    def _with_chunks(self, read: Callable[[ChunkStore], Awaitable[Result]]) -> Result:
        async def opened(database: Database) -> Result:
            store = chunk_store(ChunkStoreSettings.of(self._environment), database)
            try:
                await store.open()
                return await read(store)
            finally:
                await store.close()

        return self._with_database(opened)

    def _with_database(self, act: Callable[[Database], Awaitable[Result]]) -> Result:
        async def opened() -> Result:
            database = Database(self._url, service="drill")
            await database.open()
            try:
                return await act(database)
            finally:
                await database.close()

        return asyncio.run(opened())

    def unsettled(self, tenants: Iterable[str]) -> list[str]:
        """Name what gateway and data plane have still to do for some tenants."""
        try:
            return self.values(_UNSETTLED, tenants=[UUID(one) for one in tenants])
        except OperationalError:
            return ["the database is away"]

    def intermediates(self) -> list[str]:
        """Name the files of runs that are still there."""
        batches = self.objects / "batches"
        return [str(path.relative_to(self.objects)) for path in batches.rglob("*")]

    def files(self, tenant_id: str) -> Counter[str]:
        """Return a tenant's files below the objects' folder."""
        paths = (self.objects / tenant_id).rglob("*")
        return Counter(str(path.relative_to(self.objects)) for path in paths if path.is_file())

    def path(self, key: str) -> Path:
        """Return where an object lies."""
        return self.objects / key
