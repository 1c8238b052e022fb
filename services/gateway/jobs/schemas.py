"""Jobs as clients see them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import BaseModel, Field, model_validator

from planes.shared.domain import DocumentStatus
from services.gateway.documents.schemas import DocumentError, public_status
from services.gateway.schemas import InputModel, Tag

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})
_ENDED = frozenset({"ready", "failed", "cancelled"})
_CANCELLED = {
    "code": "cancelled",
    "detail": "Processing was cancelled, or a newer version of the document came first.",
    "retryable": True,
}


class JobProgress(BaseModel):
    """Counts over a job's documents; the rest is unfinished."""

    total: int = Field(examples=[12])
    ready: int = Field(examples=[7])
    failed: int = Field(examples=[1])
    cancelled: int = Field(examples=[0])
    percent: int = Field(
        ge=0, le=100, examples=[71], description="The mean over the documents; ended ones are 100."
    )


class JobDocument(BaseModel):
    """One document of a job; what becomes of it after the job's end changes nothing here."""

    document_id: UUID
    name: str = Field(examples=["handbook.pdf"])
    status: DocumentStatus
    percent: int = Field(ge=0, le=100, examples=[100])
    error: DocumentError | None

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """Return the public form of a row; a cancelled document shows as failed, and why."""
        is_cancelled = row["status"] == "cancelled"
        error: dict[str, Any] | None = row["error"] or (_CANCELLED if is_cancelled else None)
        return cls(
            document_id=row["document_id"],
            name=row["name"],
            status=DocumentStatus.DELETED if row["deleted_at"] else public_status(row),
            percent=row["percent"],
            error=None if error is None else DocumentError(**error),
        )


class Job(BaseModel):
    """Processing of the documents of one upload, one batch or one retry."""

    id: UUID
    status: JobStatus = Field(
        description="`queued` until work on a document has begun, `running` while one is "
        "unfinished; then `succeeded` if at least one is ready, `failed` if none is, or "
        "`cancelled`.",
        examples=["running"],
    )
    progress: JobProgress
    created_at: datetime
    finished_at: datetime | None
    documents: list[JobDocument]

    @classmethod
    def of(cls, job_id: UUID, rows: Sequence[asyncpg.Record]) -> Self:
        """Return the public form of a job's rows, one for each document."""
        statuses = [row["status"] for row in rows]
        shares = [100 if row["status"] in _ENDED else row["percent"] for row in rows]
        return cls(
            id=job_id,
            status=_status(rows),
            progress=JobProgress(
                total=len(rows),
                ready=statuses.count("ready"),
                failed=statuses.count("failed"),
                cancelled=statuses.count("cancelled"),
                percent=sum(shares) // len(rows),
            ),
            created_at=rows[0]["created_at"],
            finished_at=rows[0]["finished_at"],
            documents=[JobDocument.of(row) for row in rows],
        )


def _status(rows: Sequence[asyncpg.Record]) -> JobStatus:
    statuses = {row["status"] for row in rows}
    if rows[0]["cancelled_at"] is not None or all(row["deleted_at"] for row in rows):
        return "cancelled"
    if not statuses <= _ENDED:
        return "queued" if statuses == {"received"} else "running"
    if "ready" in statuses:
        return "succeeded"
    return "failed" if "failed" in statuses else "cancelled"


class ProcessInput(InputModel):
    """What to process again: one document, or all that have failed."""

    document_id: UUID | None = Field(default=None, description="This document's newest version.")
    all_failed: Literal[True] | None = Field(
        default=None,
        description="All documents that have failed, cancelled ones excepted; a member's own, an "
        "admin's whole tenant.",
        examples=[None],
    )
    tags: list[Tag] | None = Field(
        default=None,
        min_length=1,
        max_length=32,
        description="With `all_failed`: only documents with one of these tags.",
        examples=[None],
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.document_id is None) == (self.all_failed is None):
            raise ValueError("send either `document_id` or `all_failed: true`")
        if self.tags is not None and self.all_failed is None:
            raise ValueError("`tags` goes with `all_failed`")
        return self


class ProcessAnswer(BaseModel):
    """The job that processes documents again."""

    job_id: UUID
    documents: int = Field(description="How many documents the job has.", examples=[1])
