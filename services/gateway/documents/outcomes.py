"""What clients are told of registered files."""

from collections import Counter
from collections.abc import Sequence

from planes.shared.errors import InvalidInput, PlatformError
from services.gateway.documents.registration import Refusal, Registered
from services.gateway.documents.schemas import (
    BatchAnswer,
    Document,
    FileProblem,
    RejectedFile,
    UploadAnswer,
)


def upload_answer(registered: Registered) -> UploadAnswer:
    """Return the answer to one file.

    Raises:
        QuotaExceeded: It did not fit.
    """
    if registered.job_id is None:
        raise registered.refusals[0].problem
    return UploadAnswer(document=Document.of(registered.documents[0]), job_id=registered.job_id)


def batch_answer(registered: Registered, refusals: Sequence[Refusal]) -> BatchAnswer:
    """Return the answer to many files.

    Raises:
        PlatformError: There is no document; it is of the kind that all files have in common.
    """
    rejected = [_rejected(each) for each in (*refusals, *registered.refusals)]
    if registered.job_id is None:
        raise _none_taken([*refusals, *registered.refusals], rejected)
    return BatchAnswer(
        job_id=registered.job_id,
        documents=[Document.of(row) for row in registered.documents],
        rejected=rejected,
    )


def _none_taken(refusals: list[Refusal], rejected: list[RejectedFile]) -> PlatformError:
    kinds = Counter(type(each.problem) for each in refusals)
    kind = next(iter(kinds)) if len(kinds) == 1 else InvalidInput
    detail = refusals[0].problem.detail
    if len(refusals) > 1:
        detail = f"None of the {len(refusals)} files can be taken. The first: {detail}"
    return kind(detail, extensions={"rejected": [each.model_dump() for each in rejected]})


def _rejected(refusal: Refusal) -> RejectedFile:
    problem = refusal.problem
    return RejectedFile(
        name=refusal.name,
        problem=FileProblem(
            type=problem.type, title=problem.title, status=problem.status, detail=problem.detail
        ),
    )
