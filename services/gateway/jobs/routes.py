"""`/jobs`."""

from collections.abc import AsyncGenerator
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request
from fastapi.responses import StreamingResponse

from services.gateway.auth.dependencies import DocumentReader, DocumentWriter
from services.gateway.auth.models import Account
from services.gateway.idempotency.dependencies import Idempotent
from services.gateway.jobs.schemas import Job, ProcessAnswer, ProcessInput
from services.gateway.jobs.service import JobService
from services.gateway.jobs.watching import JobStream, JobWatch
from services.gateway.problems import problem_responses
from services.gateway.routing import PrefixRouter

router = PrefixRouter(prefix="/jobs", tags=["Documents"])
_EVENT_STREAM = "text/event-stream"
_JOB = "/{job_id:uuid}"  # a UUID, so that `process-document` has no method but its own
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


async def _jobs(request: Request) -> JobService:
    service: JobService = request.app.state.jobs
    return service


async def _watch(request: Request) -> JobWatch:
    watch: JobWatch = request.app.state.job_watch
    return watch


JobServiceDep = Annotated[JobService, Depends(_jobs)]
JobWatchDep = Annotated[JobWatch, Depends(_watch)]
LastEventId = Annotated[
    str,
    Header(max_length=64, description="The numbering goes on from here; the first event is whole."),
]


@router.get(_JOB, summary="Follow a job", responses=problem_responses(401, 404))
@router.get("/{job_id}/status", include_in_schema=False)
async def get_job(job_id: UUID, account: DocumentReader, jobs: JobServiceDep) -> Job:
    """Get the state of each document of an upload, a batch or a retry."""
    return await jobs.find(job_id, account)


@router.get(
    "/{job_id}/events",
    summary="Follow a job by server-sent events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "`job` events, each with the whole job as `GET /jobs/{id}` shows it, at "
            "most two a second, and fewer for jobs of many documents. The stream ends after the "
            "one with a final status, or after an `error` event with a problem.",
            "content": {_EVENT_STREAM: {}},
        },
        **problem_responses(401, 404),
    },
)
async def get_job_events(
    job_id: UUID,
    account: DocumentReader,
    jobs: JobServiceDep,
    watch: JobWatchDep,
    last_event_id: LastEventId = "",
) -> StreamingResponse:
    """Tell the state of a job whenever it changes, until it has finished.

    The stream ends after an hour at the latest, or when the gateway restarts; connect again.
    """
    job = await jobs.find(job_id, account)
    number = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else 0
    stream = watch.open(job, account, number % 10**15)
    events = _events(stream, watch, job_id, account)
    first = await anext(events)  # from here on the generator sees to its own end
    return StreamingResponse(_from(first, events), media_type=_EVENT_STREAM, headers=_HEADERS)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    responses=problem_responses(400, 401, 403, 404, 409),
)
async def post_cancel(
    job_id: UUID, account: DocumentWriter, jobs: JobServiceDep, repeatable: Idempotent
) -> Job:
    """Stop what the job has not finished; ready documents stay, and a finished job does not change.

    What another job waits for too goes on. Stopped documents show as `failed`, with the error code
    `cancelled`, and never become searchable.
    """
    async with repeatable.attempt(account.context, {}) as effect:
        return await jobs.cancel(job_id, account, effect)


@router.post(
    "/process-document",
    status_code=202,
    summary="Process documents again",
    responses=problem_responses(400, 401, 402, 403, 404, 409),
)
async def post_process_document(
    request: ProcessInput, account: DocumentWriter, jobs: JobServiceDep, repeatable: Idempotent
) -> ProcessAnswer:
    """Parse, chunk and embed a document again, or all that have failed.

    A searchable document gets a new version of the same bytes, and its old one is searchable until
    the new one is ready. Work that is under way already is joined: the answer names its job.
    """
    async with repeatable.attempt(account.context, request) as effect:
        return await jobs.process(request, account, effect)


async def _events(
    stream: JobStream, watch: JobWatch, job_id: UUID, account: Account
) -> AsyncGenerator[bytes, None]:
    try:
        async for event in stream.events():
            yield event
    finally:
        watch.leave(stream, job_id, account)


async def _from(first: bytes, rest: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    try:
        yield first
        async for event in rest:
            yield event
    finally:
        await rest.aclose()
