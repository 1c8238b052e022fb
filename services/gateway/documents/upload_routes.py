"""Everything that brings files: `/documents`, its batches and addresses, and `/ingest`."""

from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request

from services.gateway.auth.dependencies import Uploader
from services.gateway.dependencies import ReceiverDep, VersionsDep
from services.gateway.documents.forms import BATCH_BODY, CONTENT_BODY, UPLOAD_BODY, UploadForm
from services.gateway.documents.multipart import MultipartForm
from services.gateway.documents.schemas import BatchAnswer, TextsInput, UploadAnswer, UrlInput
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter

router = PrefixRouter()


async def _form(request: Request) -> MultipartForm:
    """Return the form of a request; it arrives while the route reads it."""
    return MultipartForm(request.headers.get("content-type", ""), request.stream())


# After the caller in every signature: nobody without credentials makes the gateway read a form.
_Form = Annotated[MultipartForm, Depends(_form)]


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
    account: Uploader, form: _Form, receiver: ReceiverDep, repeatable: Idempotent
) -> UploadAnswer:
    """Accept a file and make it searchable.

    The same bytes again return the document that exists. Follow `GET /jobs/{id}`.
    """
    context = account.context
    async with (
        receiver.file(UploadForm(form, "file"), context) as received,
        repeatable.attempt(context, received.content()) as effect,
    ):
        return await receiver.register(received, context, effect)


@router.post(
    "/documents/batch",
    status_code=202,
    summary="Upload many documents",
    tags=["Documents"],
    responses=problem_responses(400, 401, 402, 403, 409, 413, 415),
    openapi_extra=BATCH_BODY,
)
@router.post("/documents/batch-upload", status_code=202, include_in_schema=False)
async def post_batch(
    account: Uploader, form: _Form, receiver: ReceiverDep, repeatable: Idempotent
) -> BatchAnswer:
    """Accept up to 1,000 files, or a ZIP archive that holds them, and make them searchable.

    One job follows all of them. Files that cannot be taken are listed in `rejected`, and the others
    are taken all the same; where none can, the answer is a problem with that list.
    """
    context = account.context
    async with (
        receiver.batch(UploadForm(form, "files", "file"), context) as received,
        repeatable.attempt(context, received.content()) as effect,
    ):
        return await receiver.register_batch(received, context, effect)


@router.post(
    "/documents/url",
    status_code=202,
    summary="Fetch a document from an address",
    tags=["Documents"],
    responses=problem_responses(400, 401, 402, 403, 409, 413, 415),
)
async def post_url(
    wanted: UrlInput, account: Uploader, receiver: ReceiverDep, repeatable: Idempotent
) -> UploadAnswer:
    """Fetch a file of the public internet and make it searchable, as if it had been uploaded.

    The file has to arrive within 30 seconds, after at most five redirects.
    """
    async with repeatable.attempt(account.context, wanted) as effect:
        return await receiver.fetch(wanted, account.context, effect)


@router.put(
    "/documents/{document_id}/content",
    status_code=202,
    summary="Upload another version of a document",
    tags=["Documents"],
    responses=problem_responses(400, 401, 402, 403, 404, 409, 413, 415),
    openapi_extra=CONTENT_BODY,
)
async def put_content(  # noqa: PLR0913, PLR0917 (each is a dependency)
    document_id: UUID,
    account: Uploader,
    form: _Form,
    receiver: ReceiverDep,
    versions: VersionsDep,
    repeatable: Idempotent,
) -> UploadAnswer:
    """Accept a file as the document's next version.

    The version before stays searchable until this one is ready, and for good if it fails. The
    document keeps its name. Content that the document has already makes no version. Members may
    replace the documents that they uploaded, admins all.
    """
    await versions.check(document_id, account)
    upload = UploadForm(form, "file", is_labelled=False)
    async with (
        receiver.file(upload, account.context, document_id) as received,
        repeatable.attempt(account.context, received.content()) as effect,
    ):
        return await receiver.replace(received, account, effect)


@router.post(
    "/ingest",
    status_code=202,
    summary="Make texts documents",
    tags=["Documents"],
    responses=problem_responses(400, 401, 402, 403, 409, 413),
)
async def post_texts(
    wanted: TextsInput, account: Uploader, receiver: ReceiverDep, repeatable: Idempotent
) -> BatchAnswer:
    """Accept texts as JSON and make them searchable; one job follows all of them."""
    async with repeatable.attempt(account.context, wanted) as effect:
        return await receiver.ingest(wanted, account.context, effect)
