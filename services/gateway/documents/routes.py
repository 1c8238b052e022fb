"""`/documents` and `/search`."""

from typing import Annotated
from uuid import UUID

from fastapi import Query, Request, Response

from planes.shared.domain import DocumentStatus
from services.gateway.auth.dependencies import (
    DocumentReader,
    DocumentWriter,
    Searcher,
)
from services.gateway.dependencies import DocumentServiceDep, SearchServiceDep, VersionsDep
from services.gateway.documents.download import download
from services.gateway.documents.repository import DocumentFilter
from services.gateway.documents.schemas import (
    DeletionAnswer,
    DeletionReceipt,
    Document,
    DocumentChange,
    Removed,
    SearchAnswer,
    SearchInput,
)
from services.gateway.pagination import Cursor, Limit, decode_id, encode_id
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter
from services.gateway.schemas import Page

router = PrefixRouter()
_DOCUMENT = "/documents/{document_id:uuid}"  # a UUID, so that `batch` has no method but its own


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
    _DOCUMENT,
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
        206: {"description": "The part that the header `Range` asks for."},
        416: {"description": "The header `Range` asks for what is not there."},
        **problem_responses(401, 404),
    },
)
async def get_document_content(
    document_id: UUID, request: Request, account: DocumentReader, documents: DocumentServiceDep
) -> Response:
    """Download the file as it was uploaded, or a part of it (RFC 9110, 14)."""
    content = await documents.content(document_id, account.context)
    return download(request, content, _INERT)


@router.patch(
    _DOCUMENT,
    summary="Change a document's name, tags or metadata",
    tags=["Documents"],
    responses=problem_responses(401, 403, 404),
)
async def patch_document(
    document_id: UUID, change: DocumentChange, account: DocumentWriter, versions: VersionsDep
) -> Document:
    """Change what is sent; tags and metadata are replaced as a whole.

    Members may change the documents that they uploaded, admins all.
    """
    changes = change.model_dump(exclude_none=True)
    return Document.of(await versions.change(document_id, changes, account))


@router.delete(
    _DOCUMENT,
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
    """Get what a deletion removes, counted before the first chunk is; `complete`: all is gone."""
    row = await documents.receipt(document_id, account.context)
    return DeletionReceipt(
        status="complete" if row["completed_at"] else "deleting",
        removed=Removed(
            chunks=row["chunks"], files=row["files"], cache_entries=row["cache_entries"]
        ),
    )


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
