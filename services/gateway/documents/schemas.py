"""Documents, jobs and receipts as clients see them."""

import json
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

import asyncpg
import orjson
from pydantic import BaseModel, Field, field_validator

from planes.shared.domain import DocumentStatus
from planes.shared.wire import PassageOut
from services.gateway.schemas import NOT_BLANK, InputModel, Tag, Text


class DocumentError(BaseModel):
    """Why a document is not searchable."""

    code: str = Field(examples=["encrypted"])
    detail: str = Field(
        examples=["The PDF is protected by a password. Remove it and upload again."]
    )
    retryable: bool


def public_status(row: asyncpg.Record) -> DocumentStatus:
    """Return the status of a row; a cancelled version shows as failed with its reason."""
    return DocumentStatus("failed" if row["status"] == "cancelled" else row["status"])


class Document(BaseModel):
    """A document; `status` is its newest version's, `version` the searchable one or null."""

    id: UUID
    name: str = Field(examples=["handbook.pdf"])
    media_type: str = Field(examples=["application/pdf"])
    size_bytes: int
    sha256: str
    status: DocumentStatus
    error: DocumentError | None
    version: int | None
    chunk_count: int
    page_count: int | None
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """Return the public form of a row."""
        fields = {name: row[name] for name in cls.model_fields if name not in ("status", "sha256")}
        return cls(status=public_status(row), sha256=row["sha256"].hex(), **fields)


class UploadAnswer(BaseModel):
    """An accepted upload and the job that makes it searchable."""

    document: Document
    job_id: UUID


class JobProgress(BaseModel):
    """Counts over a job's documents."""

    total: int
    ready: int
    failed: int


class JobDocument(BaseModel):
    """One document of a job."""

    document_id: UUID
    name: str
    status: DocumentStatus
    percent: int = Field(ge=0, le=100)
    error: DocumentError | None


class Job(BaseModel):
    """Processing of the documents of one upload."""

    id: UUID
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    progress: JobProgress
    documents: list[JobDocument]


class DeletionAnswer(BaseModel):
    """An accepted deletion: search no longer shows the document."""

    document_id: UUID
    receipt_id: UUID


class Removed(BaseModel):
    """What a deletion removed so far."""

    chunks: int
    files: int
    cache_entries: int


class DeletionReceipt(BaseModel):
    """The state of a deletion."""

    status: Literal["deleting", "complete"]
    removed: Removed


class SearchInput(InputModel):
    """A search over the tenant's documents."""

    query: Text = Field(
        min_length=1,
        max_length=4000,
        examples=["How long is the warranty?"],
        json_schema_extra=NOT_BLANK,
    )
    top_k: int = Field(default=10, ge=1, le=50)
    document_ids: list[UUID] | None = Field(default=None, max_length=1000)
    tags: list[Tag] | None = Field(
        default=None, max_length=32, description="Only documents with one of these tags."
    )
    filter: dict[str, Any] | None = Field(
        default=None,
        description="Only documents whose metadata hold these members.",
        examples=[{"department": "legal"}],
    )

    @field_validator("filter")
    @classmethod
    def _storable(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        try:
            encoded = json.dumps(value, ensure_ascii=False, allow_nan=False)
            stored: dict[str, Any] | None = orjson.loads(encoded)  # numbers as metadata has them
            orjson.dumps(stored)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError("the filter is nested too deeply, or not valid Unicode") from error
        if "\\u0000" in encoded:
            raise ValueError("the NUL character is not allowed")
        return stored

    @field_validator("query")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the query is blank")
        return value


class SearchAnswer(BaseModel):
    """The best passages, best first."""

    passages: list[PassageOut]
