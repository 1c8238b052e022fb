"""`/documents`, `/jobs` and `/search`."""

from typing import Annotated
from urllib.parse import quote
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from planes.shared.domain import DocumentStatus
from services.gateway.auth.dependencies import (
    DocumentReader,
    DocumentWriter,
    Searcher,
    Uploader,
)
from services.gateway.dependencies import DocumentServiceDep, SearchServiceDep
from services.gateway.documents.forms import UPLOAD_BODY, content_of, read_upload
from services.gateway.documents.repository import DocumentFilter
from services.gateway.documents.schemas import (
    DeletionAnswer,
    DeletionReceipt,
    Document,
    Job,
    JobDocument,
    JobProgress,
    Removed,
    SearchAnswer,
    SearchInput,
    UploadAnswer,
    public_status,
)
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.schemas import Page

router = APIRouter()
_FINISHED = frozenset({"ready", "failed", "cancelled"})


@router.post(
    "/documents",
    status_code=202,
    summary="Upload a document",
    tags=["Documents"],
    responses=problem_responses(400, 401, 402, 403, 409, 413, 415),
    openapi_extra=UPLOAD_BODY,
)
@router.post("/documents/upload", status_code=202, include_in_schema=False)
async def post_document(
    request: Request,
    account: Uploader,
    documents: DocumentServiceDep,
    repeatable: Idempotent,
) -> UploadAnswer:
    """Accept a PDF, DOCX, HTML, Markdown or text file and make it searchable.

    The same bytes again return the document that exists. Follow `GET /jobs/{id}`.
    """
    async with read_upload(request) as (file, labels):
        content = await content_of(file, labels) if repeatable.is_keyed else {}
        async with repeatable.attempt(account.context, content) as effect:
            return await documents.upload(file, labels, account.context, effect)


@router.get(
    "/documents",
    summary="List documents",
    tags=["Documents"],
    responses=problem_responses(401),
)
@router.get("/documents/list", include_in_schema=False)
async def get_documents(  # noqa: PLR0913, PLR0917 (each is a query parameter)
    account: DocumentReader,
    documents: DocumentServiceDep,
    status: DocumentStatus | None = None,
    tag: Annotated[str | None, Query(max_length=64, pattern="^[^\x00]*$")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Document]:
    """List the tenant's documents, newest first."""
    wanted = DocumentFilter(status, tag, decode_id(cursor), limit + 1)
    rows = await documents.page(wanted, account.context)
    following = encode_id(rows[limit - 1]["id"]) if len(rows) > limit else None
    return Page(items=[Document.of(row) for row in rows[:limit]], next_cursor=following)


@router.get(
    "/documents/{document_id}",
    summary="Get a document",
    tags=["Documents"],
    responses=problem_responses(401, 404),
)
async def get_document(
    document_id: UUID, account: DocumentReader, documents: DocumentServiceDep
) -> Document:
    """Get one document with the state of its processing."""
    return Document.of(await documents.find(document_id, account.context))


@router.get(
    "/documents/{document_id}/text",
    summary="Get a document's extracted text",
    tags=["Documents"],
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **problem_responses(401, 404, 409),
    },
)
async def get_document_text(
    document_id: UUID,
    account: DocumentReader,
    documents: DocumentServiceDep,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
) -> Response:
    """Get the text that citations point into: `quote == text[start:end]`, in characters."""
    text = await documents.text(document_id, version, account.context)
    return Response(text, media_type="text/plain; charset=utf-8", headers=_INERT)


@router.get(
    "/documents/{document_id}/content",
    summary="Download the original file",
    tags=["Documents"],
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"format": "binary"}}}},
        **problem_responses(401, 404),
    },
)
async def get_document_content(
    document_id: UUID, account: DocumentReader, documents: DocumentServiceDep
) -> StreamingResponse:
    """Download the file as it was uploaded."""
    content = await documents.content(document_id, account.context)
    disposition = f"attachment; filename*=UTF-8''{quote(content.name, safe='')}"
    return StreamingResponse(
        content.blocks,
        media_type=content.media_type,
        headers={**_INERT, "content-disposition": disposition},
    )


@router.delete(
    "/documents/{document_id}",
    status_code=202,
    summary="Delete a document",
    tags=["Documents"],
    responses=problem_responses(401, 403, 404),
)
async def delete_document(
    document_id: UUID, account: DocumentWriter, documents: DocumentServiceDep
) -> DeletionAnswer:
    """Take a document out of search at once and remove its chunks and files.

    `GET /documents/{id}/receipt` tells when all is gone.
    """
    receipt_id = await documents.delete(document_id, account)
    return DeletionAnswer(document_id=document_id, receipt_id=receipt_id)


@router.get(
    "/documents/{document_id}/receipt",
    summary="Get the receipt of a deletion",
    tags=["Documents"],
    responses=problem_responses(401, 404),
)
async def get_receipt(
    document_id: UUID, account: DocumentReader, documents: DocumentServiceDep
) -> DeletionReceipt:
    """Get what a deletion has removed so far."""
    row = await documents.receipt(document_id, account.context)
    return DeletionReceipt(
        status="complete" if row["completed_at"] else "deleting",
        removed=Removed(
            chunks=row["chunks"], files=row["files"], cache_entries=row["cache_entries"]
        ),
    )


@router.get(
    "/jobs/{job_id}",
    summary="Follow a job",
    tags=["Documents"],
    responses=problem_responses(401, 404),
)
@router.get("/jobs/{job_id}/status", include_in_schema=False)
async def get_job(job_id: UUID, account: DocumentReader, documents: DocumentServiceDep) -> Job:
    """Get the state of each document of an upload."""
    return _job(job_id, await documents.job(job_id, account.context))


@router.post(
    "/search",
    summary="Search the documents",
    tags=["Documents"],
    responses=problem_responses(401),
)
async def post_search(
    request: SearchInput, account: Searcher, search: SearchServiceDep
) -> SearchAnswer:
    """Return the passages that fit a query best, by meaning and by words."""
    return SearchAnswer(passages=list(await search.search(request, account.context)))


_INERT = {"x-content-type-options": "nosniff", "content-security-policy": "sandbox"}


def _job(job_id: UUID, rows: list[asyncpg.Record]) -> Job:
    statuses = [row["status"] for row in rows]
    ready, failed = statuses.count("ready"), statuses.count("failed")
    if rows[0]["cancelled_at"] is not None or all(row["deleted_at"] for row in rows):
        status = "cancelled"
    elif _FINISHED.issuperset(statuses):
        status = "succeeded" if ready else "failed"
    else:
        status = "queued" if set(statuses) == {"received"} else "running"
    return Job(
        id=job_id,
        status=status,
        progress=JobProgress(total=len(rows), ready=ready, failed=failed),
        documents=[
            JobDocument(
                document_id=row["document_id"],
                name=row["name"],
                status=DocumentStatus.DELETED if row["deleted_at"] else public_status(row),
                percent=row["percent"],
                error=row["error"],
            )
            for row in rows
        ],
    )
