"""Documents, jobs and receipts as clients see them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, BaseModel, Field, field_validator
from pydantic.json_schema import SkipJsonSchema

from planes.shared.domain import DocumentStatus
from planes.shared.wire import PassageOut
from services.gateway.documents.filters import Narrowing
from services.gateway.documents.labels import Metadata, Tags
from services.gateway.schemas import NOT_BLANK, InputModel, Name, Text


def _plain_name(value: str) -> str:
    """Refuse what no file system would show as one name."""
    if not value.strip() or not value.isprintable() or "/" in value or "\\" in value:
        raise ValueError("a name is printable, and holds no slashes")
    return value


DocumentName = Annotated[
    Text,
    AfterValidator(_plain_name),
    Field(min_length=1, max_length=255, examples=["handbook.pdf"], json_schema_extra=NOT_BLANK),
]


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


class FileProblem(BaseModel):
    """Why a file cannot be taken, as problems have it (RFC 9457)."""

    type: str = Field(examples=["urn:polyplane:problem:unsupported-media-type"])
    title: str = Field(examples=["Unsupported media type"])
    status: int = Field(examples=[415])
    detail: str = Field(examples=["Files named *.exe cannot be read."])


class RejectedFile(BaseModel):
    """A file of a batch that cannot be taken; the others are."""

    name: str = Field(examples=["setup.exe"])
    problem: FileProblem


class BatchAnswer(BaseModel):
    """An accepted batch: its documents, each once, and one job that makes all searchable."""

    job_id: UUID
    documents: list[Document]
    rejected: list[RejectedFile]


class UrlInput(InputModel):
    """The address of a file."""

    url: Text = Field(
        min_length=8,
        max_length=2048,
        examples=["https://www.example.com/handbook.pdf"],
        json_schema_extra={"format": "uri"},
    )
    tags: Tags = Field(default_factory=list)


class TextInput(InputModel):
    """A text that is to become a document."""

    name: Name = Field(examples=["opening-hours.md"])
    text: Text = Field(
        min_length=1, examples=["We are open from 9 to 5."], json_schema_extra=NOT_BLANK
    )
    metadata: Metadata = Field(default_factory=dict)

    @field_validator("text")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the text is blank")
        return value


class TextsInput(InputModel):
    """Texts that are to become documents."""

    documents: list[TextInput] = Field(min_length=1, max_length=1000)


class DocumentChange(InputModel):
    """What may change in a document without another version."""

    name: DocumentName | SkipJsonSchema[None] = None
    tags: Tags | SkipJsonSchema[None] = None
    metadata: Metadata | SkipJsonSchema[None] = None


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


class SearchInput(Narrowing):
    """A search over the tenant's documents."""

    query: Text = Field(
        min_length=1,
        max_length=4000,
        examples=["How long is the warranty?"],
        json_schema_extra=NOT_BLANK,
    )
    top_k: int = Field(default=10, ge=1, le=50)
    document_ids: list[UUID] | None = Field(default=None, max_length=1000)

    @field_validator("query")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("the query is blank")
        return value


class SearchAnswer(BaseModel):
    """The best passages, best first."""

    passages: list[PassageOut]
