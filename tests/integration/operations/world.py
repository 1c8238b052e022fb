"""A platform's data without a platform: two tenants with documents, conversations and a ledger."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import numpy as np

from planes.shared.domain import (
    ChatMessage,
    Chunk,
    chunk_id,
    new_id,
    original_key,
    text_key,
)
from planes.shared.ports import ObjectStore
from planes.shared.stores.chat_log_settings import ChatLogSettings
from planes.shared.stores.chunk_settings import ChunkStoreSettings
from planes.shared.stores.objects import FolderObjects
from services.operations.stores import Stores, open_stores

CHUNKS = 7
BEGAN = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """Stores by their settings; they are opened for each use."""

    url: str = field(repr=False)
    folder: Path
    chunks: dict[str, object] = field(default_factory=dict)
    log: dict[str, object] = field(default_factory=dict)
    objects: ObjectStore | None = None

    @asynccontextmanager
    async def open(self, *, are_new: bool = False) -> AsyncIterator[Stores]:
        async with open_stores(
            self.url,
            self.objects or FolderObjects(self.folder),
            ChunkStoreSettings.model_validate(self.chunks),
            ChatLogSettings.model_validate(self.log),
            are_new=are_new,
        ) as stores:
            yield stores


@dataclass(frozen=True)
class Tenant:
    tenant_id: UUID
    user_id: UUID
    document_id: UUID
    version_id: UUID
    conversation_id: UUID
    messages: list[ChatMessage]


async def settle(place: Place, name: str, *, are_new: bool = False) -> Tenant:
    """Put a tenant into the stores: a document, two turns, a ledger."""
    ids = [new_id() for _ in range(5)]
    tenant = Tenant(*ids, messages=[])
    async with place.open(are_new=are_new) as stores:
        await _document(stores, tenant, name)
        await _conversation(stores, tenant)
    return tenant


async def _document(stores: Stores, tenant: Tenant, name: str) -> None:
    tenant_id, user_id, document_id, version_id = (
        tenant.tenant_id,
        tenant.user_id,
        tenant.document_id,
        tenant.version_id,
    )
    lines = (f"{name} says: no. {n}. Käfer 🐞\t\\N costs {n} \u2028 euros." for n in range(CHUNKS))
    text = "\n".join(lines)
    content = text.encode()
    await stores.objects.put(original_key(tenant_id, document_id, version_id), content)
    await stores.objects.put(text_key(tenant_id, document_id, version_id), content)
    async with stores.database.platform() as connection:
        await connection.execute("INSERT INTO tenants (id, name) VALUES ($1, $2)", tenant_id, name)
        await connection.execute(
            "INSERT INTO users (id, email, email_key, password_hash, display_name) "
            "VALUES ($1, $2, $2, 'a\tb\\c\nd', '')",
            user_id,
            f"{name}@example.com",
        )
        await connection.execute(
            "INSERT INTO memberships (tenant_id, user_id, role) VALUES ($1, $2, 'owner')",
            tenant_id,
            user_id,
        )
        await connection.execute(
            "INSERT INTO sessions (id, tenant_id, user_id) VALUES ($1, $2, $3)",
            new_id(),
            tenant_id,
            user_id,
        )
        await connection.execute(
            "INSERT INTO documents (id, tenant_id, owner_id, name, sha256, newest_version_id, "
            "published_version_id) VALUES ($1, $2, $3, 'a file', $4, $5, $5)",
            document_id,
            tenant_id,
            user_id,
            hashlib.sha256(content).digest(),
            version_id,
        )
        await connection.execute(
            "INSERT INTO document_versions (id, tenant_id, document_id, number, sha256, size_bytes,"
            " media_type, status, visibility, generation, chunk_count, published_at) "
            "VALUES ($1, $2, $3, 1, $4, $5, 'text/plain', 'ready', 'live', 1, $6, now())",
            version_id,
            tenant_id,
            document_id,
            hashlib.sha256(content).digest(),
            len(content),
            CHUNKS,
        )
        await connection.execute(
            "INSERT INTO version_terms (version_id, tenant_id, generation, language, chunks, terms,"
            " term_chunks, counted) VALUES ($1, $2, 1, 'english', $3, '{kafer}', '{7}', true)",
            version_id,
            tenant_id,
            CHUNKS,
        )
    await stores.chunks.add_chunks(chunks_of(tenant, text), vectors_of(tenant), generation=1)


def chunks_of(tenant: Tenant, text: str) -> list[Chunk]:
    chunks, start = [], 0
    for ordinal, line in enumerate(text.split("\n")):
        end = start + len(line)
        chunks.append(
            Chunk(
                id=chunk_id(tenant.version_id, ordinal),
                tenant_id=tenant.tenant_id,
                document_id=tenant.document_id,
                version_id=tenant.version_id,
                ordinal=ordinal,
                start=start,
                end=end,
                page=ordinal + 1 if ordinal % 2 else None,
                heading="Prices > Käfer" if ordinal else "",
                text=line,
                language="en",
            )
        )
        start = end + 1
    return chunks


def vectors_of(tenant: Tenant) -> np.ndarray:
    random = np.random.default_rng(tenant.tenant_id.int % 2**32)
    vectors = random.standard_normal((CHUNKS, 384)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


async def _conversation(stores: Stores, tenant: Tenant) -> None:
    async with stores.database.platform() as connection:
        await connection.execute(
            "INSERT INTO conversations (id, tenant_id, user_id, title, mode, message_count) "
            "VALUES ($1, $2, $3, 'prices', 'rag', 4)",
            tenant.conversation_id,
            tenant.tenant_id,
            tenant.user_id,
        )
    for seq in (1, 2, 3, 4):
        tenant.messages.append(message(tenant, seq, f"message {seq} \\ \u2028 🐞"))
    # answered again: the page of a log shows the newer answer alone
    tenant.messages.append(message(tenant, 4, "another answer"))
    for each in tenant.messages:
        if each.role == "assistant":
            async with stores.database.platform() as connection:
                await settled(connection, tenant, each)
    await stores.chat_log.append(tenant.messages)


def message(tenant: Tenant, seq: int, content: str) -> ChatMessage:
    is_answer = seq % 2 == 0
    return ChatMessage(
        new_id(),
        tenant.tenant_id,
        tenant.conversation_id,
        seq,
        "assistant" if is_answer else "user",
        content,
        BEGAN + timedelta(seconds=seq),
        citations=[{"marker": "[1]", "quote": "7 euros"}] if is_answer else [],
        model="extractive" if is_answer else None,
    )


async def settled(connection: asyncpg.Connection, tenant: Tenant, answer: ChatMessage) -> None:
    """Note an answer and its price, as `settle_answer` does."""
    await connection.execute(
        "INSERT INTO answers (message_id, tenant_id, conversation_id, seq) VALUES ($1, $2, $3, $4)",
        answer.id,
        tenant.tenant_id,
        tenant.conversation_id,
        answer.seq,
    )
    await connection.execute(
        "INSERT INTO ledger (id, tenant_id, user_id, request_id, kind, period, model, mode, "
        "prompt_tokens, completion_tokens, cost_usd) "
        "VALUES ($1, $2, $3, $4, 'answer', '2026-03-01', 'extractive', 'rag', 10, 3, 0.0000000107)",
        new_id(),
        tenant.tenant_id,
        tenant.user_id,
        answer.id,
    )
