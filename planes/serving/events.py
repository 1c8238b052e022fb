"""An answer as server-sent events: `meta` first, exactly one of `done` and `error` last."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import structlog
from pydantic import BaseModel

from planes.serving.admission import Admission
from planes.serving.agent.state import Answer, Cited, Progress, StepTaken, TextAdded, TokensSpent
from planes.serving.caches.answers import CachedAgent
from planes.serving.caches.lookups import begin_lookups, lookups_so_far
from planes.shared.domain import SearchScope, TenantContext
from planes.shared.errors import PlatformError
from planes.shared.wire import AnswerRequest, Done, Meta, Problem, Scope, encode_event

_log = structlog.get_logger(__name__)


async def answer_events(
    agent: CachedAgent,
    request: AnswerRequest,
    context: TenantContext,
    *,
    admission: Admission | None = None,
) -> AsyncGenerator[bytes, None]:
    """Yield the frames of one answer, ids rising from 1; closing the iterator stops the work."""
    event_id = 1
    begin_lookups()
    meta = Meta(
        id=request.answer_id,
        conversation_id=request.conversation_id,
        model=agent.model,
        mode=request.mode,
    )
    yield encode_event("meta", meta, event_id=event_id)
    try:
        scope = search_scope(request.scope, context)
        answer = agent.answer(request, scope)
        counted = answer if admission is None else admission.admitted(answer)
        async with aclosing(counted) as progress:
            async for told in progress:
                event_id += 1
                name, data = _event(told, agent.model)
                yield encode_event(name, data, event_id=event_id)
    except PlatformError as error:
        _log.warning("answer failed", code=error.code)
        yield encode_event("error", problem_of(error), event_id=event_id + 1)
    except Exception:
        _log.exception("answer failed")
        unexpected = PlatformError("The answer failed on our side.")
        yield encode_event("error", problem_of(unexpected), event_id=event_id + 1)


def search_scope(scope: Scope, context: TenantContext) -> SearchScope:
    """Return what a request may see; the tenant comes from the verified token alone."""
    return SearchScope(
        tenant_id=context.tenant_id,
        generation=scope.generation,
        hidden_versions=scope.hidden_versions,
        document_ids=scope.document_ids,
        documents=scope.documents,
        corpus_version=scope.corpus_version,
    )


def problem_of(error: PlatformError) -> Problem:
    """Return what a caller may see of a failure."""
    return Problem(code=error.code, title=error.title, status=error.status, detail=error.detail)


def _event(told: Progress, model: str) -> tuple[str, BaseModel | dict[str, object]]:
    match told:
        case StepTaken(name, detail):
            return "step", {"name": name} if detail is None else {"name": name, "detail": detail}
        case TextAdded(text, completion_tokens):
            return "delta", {"text": text, "completion_tokens": completion_tokens}
        case Cited(citation):
            return "citation", citation
        case TokensSpent(usage):
            return "usage", usage
        case Answer():
            return "done", Done(
                content=told.content,
                citations=told.citations,
                grounded=told.grounded,
                finish_reason=told.finish_reason,
                model=model,
                usage=told.usage,
                unsupported=told.unsupported,
                summary=told.summary,
                caches=lookups_so_far(),
            )
