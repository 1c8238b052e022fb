"""A registry with tenants, and uploads as the gateway makes them."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest

from planes.data.composition import open_ingestion
from planes.data.composition_generations import Reembedding, open_reembedding
from planes.data.pipeline.ingestion import Ingestion
from planes.data.pipeline.parse import ParseLimits, Parser
from planes.data.pipeline.turn import Built
from planes.data.settings import DataSettings
from planes.shared.domain import new_id, original_key
from planes.shared.stores.objects import FolderObjects
from planes.shared.stores.postgres import Database


@dataclass(frozen=True)
class Upload:
    tenant_id: UUID
    document_id: UUID
    version_id: UUID


class Platform:
    """The database and the object store around the data plane, in the gateway's place."""

    def __init__(self, admin: asyncpg.Connection, settings: DataSettings, parser: Parser) -> None:
        self.admin = admin
        self.settings = settings
        self.objects = FolderObjects(settings.objects_dir)
        self._parser = parser

    def run(self, run_id: str) -> AbstractAsyncContextManager[Ingestion]:
        return open_ingestion(self.settings, run_id, self._parser)

    async def tenant(self) -> UUID:
        tenant_id, user_id = new_id(), new_id()
        await self.admin.execute("INSERT INTO tenants (id, name) VALUES ($1, 'acme')", tenant_id)
        await self.admin.execute(
            "INSERT INTO users (id, email, email_key, password_hash, display_name) "
            "VALUES ($1, $2, $2, '', '')",
            user_id,
            str(user_id),
        )
        await self.admin.execute(
            "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, 'owner')",
            tenant_id,
            user_id,
        )
        return tenant_id

    async def upload(
        self,
        content: bytes,
        media_type: str = "text/plain",
        *,
        tenant_id: UUID | None = None,
        replaces: Upload | None = None,
    ) -> Upload:
        tenant_id = tenant_id or (replaces.tenant_id if replaces else await self.tenant())
        upload = Upload(tenant_id, replaces.document_id if replaces else new_id(), new_id())
        await self.objects.put(
            original_key(tenant_id, upload.document_id, upload.version_id), content
        )
        digest = hashlib.sha256(content).digest()
        if replaces is None:
            await self.admin.execute(
                "INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id) "
                "SELECT $1, $2, user_id, 'a file', $3, $4 FROM memberships WHERE tenant_id = $2",
                upload.document_id,
                tenant_id,
                digest,
                upload.version_id,
            )
        await self.admin.execute(
            "INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes,"
            " media_type) SELECT $1, $2, $3, coalesce(max(number), 0) + 1, $4, $5, $6 "
            "FROM document_versions WHERE document_id = $3",
            upload.version_id,
            tenant_id,
            upload.document_id,
            digest,
            len(content),
            media_type,
        )
        await self.admin.execute(
            "UPDATE documents SET newest_version_id = $2 WHERE id = $1",
            upload.document_id,
            upload.version_id,
        )
        return upload

    async def delete(self, upload: Upload) -> None:
        await self.admin.execute(
            "UPDATE documents SET deleted_at = now() WHERE id = $1", upload.document_id
        )
        await self.admin.execute(
            "UPDATE document_versions SET visibility = 'hidden' "
            "WHERE document_id = $1 AND visibility = 'live'",
            upload.document_id,
        )
        await self.admin.execute(
            "INSERT INTO deletions (id, tenant_id, document_id, requested_by) "
            "SELECT $1, tenant_id, id, owner_id FROM documents WHERE id = $2",
            new_id(),
            upload.document_id,
        )

    async def expire_leases(self) -> None:
        await self.admin.execute(
            "UPDATE document_versions SET lease_until = now() - interval '1 second' "
            "WHERE lease_until IS NOT NULL"
        )

    async def version(self, upload: Upload) -> asyncpg.Record:
        return await self.admin.fetchrow(
            "SELECT * FROM document_versions WHERE id = $1", upload.version_id
        )

    async def chunks(self, upload: Upload) -> list[asyncpg.Record]:
        return await self.admin.fetch(
            "SELECT * FROM chunks_g1 WHERE version_id = $1 ORDER BY ordinal", upload.version_id
        )

    def files(self) -> list[str]:
        folder = self.settings.objects_dir
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def ingest(pipeline: Ingestion) -> None:
    """Every step of a run, in the order of the assets and their checks."""
    await pipeline.claim(seconds=10, documents=100, attempts=3)
    await pipeline.parse()
    await pipeline.chunk()
    assert not any((await pipeline.check_chunks()).values())
    await pipeline.embed()
    assert not any((await pipeline.check_vectors()).values())
    await pipeline.index()
    assert not any((await pipeline.check_index()).values())
    await pipeline.publish()


@pytest.fixture(scope="session")
def parser() -> Iterator[Parser]:
    with Parser(ParseLimits()) as running:
        yield running


@pytest.fixture
async def platform(
    database_urls: dict[str, str], tmp_path: Path, parser: Parser
) -> AsyncIterator[Platform]:
    settings = DataSettings(database_url=database_urls["data"], objects_dir=tmp_path / "objects")
    admin = await asyncpg.connect(database_urls["admin"])
    await admin.set_type_codec("jsonb", encoder=str, decoder=orjson.loads, schema="pg_catalog")
    yield Platform(admin, settings, parser)
    await admin.close()


@pytest.fixture
async def owner(database_urls: dict[str, str]) -> AsyncIterator[Database]:
    """The database in the operator's hands."""
    database = Database(database_urls["admin"], service="test", max_connections=8)
    await database.open()
    yield database
    await database.close()


class Builders:
    """Opens builders as runs do."""

    def __init__(self, platform: Platform, parser: Parser) -> None:
        self.platform = platform
        self.parser = parser

    def open(self, number: int) -> AbstractAsyncContextManager[Reembedding]:
        return open_reembedding(self.platform.settings, number, self.parser)

    async def build(self, number: int, *, seconds: float = 600, gives_way: bool = True) -> Built:
        async with self.open(number) as opened:
            return await opened.build(seconds=seconds, gives_way=gives_way)


@pytest.fixture
def builders(platform: Platform, parser: Parser) -> Builders:
    return Builders(platform, parser)


async def ingest_all(platform: Platform, run_id: str = "run") -> None:
    async with platform.run(run_id) as pipeline:
        await ingest(pipeline)


async def remove_all(platform: Platform) -> int:
    async with platform.run("removal") as pipeline:
        return (await pipeline.remove()).chunks
