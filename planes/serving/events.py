"""An answer as server-sent events: `meta` first, exactly one of `done` and `error` last."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict

import structlog
from opentelemetry.trace import Span
from pydantic import BaseModel

from planes.serving.admission import Admission
from planes.serving.agent.state import (
    Answer,
    Cited,
    Progress,
    StepTaken,
    TextAdded,
    TokensSpent,
    ToolCalled,
)
from planes.serving.caches.answers import CachedAgent
from planes.serving.caches.lookups import begin_lookups, lookups_so_far
from planes.serving.tracing import begin_span, named, note_failure
from planes.shared.domain import SearchScope, TenantContext
from planes.shared.errors import PlatformError
from planes.shared.wire import (
    AnswerRequest,
    CallPiece,
    Done,
    FunctionCall,
    Meta,
    Problem,
    Scope,
    encode_event,
)

_log = structlog.get_logger(__name__)


async def answer_events(
    agent: CachedAgent, request: AnswerRequest, context: TenantContext, *, admission: Admission
) -> AsyncGenerator[bytes, None]:
    """Yield the frames of one answer, ids rising from 1; closing the iterator stops the work.

    Raises:
        Unavailable: At the first frame: there is no place for the answer.
    """
    with admission.place():
        begin_lookups()
        span = begin_span(
            "answer",
            answer_id=str(request.answer_id),
            conversation_id=str(request.conversation_id),
            tenant_id=str(context.tenant_id),
            model=agent.model,
            mode=request.mode.value,
        )
        meta = Meta(
            id=request.answer_id,
            conversation_id=request.conversation_id,
            model=agent.model,
            mode=request.mode,
        )
        try:
            yield encode_event("meta", meta, event_id=1)
            answer = agent.answer(request, search_scope(request.scope, context))
            told = _told_and_ended(admission.until_stopped(answer), agent.model, span)
            async with aclosing(told) as frames:
                async for frame in frames:
                    yield frame
        finally:
            span.end()


async def _told_and_ended(
    progress: AsyncGenerator[Progress, None], model: str, span: Span
) -> AsyncGenerator[bytes, None]:
    """Yield the frames after `meta`: the last is `done`, or `error`, and never both."""
    event_id, is_done, problem = 1, False, PlatformError("The answer failed on our side.")
    try:
        async with aclosing(progress):
            async for told in progress:
                event_id += 1
                name, data = _event(told, model)
                frame = encode_event(name, data, event_id=event_id)
                if isinstance(told, Answer):
                    is_done = True
                    _note_answer(span, told)
                yield frame
    except PlatformError as error:
        _log.warning("answer failed", code=error.code)
        problem = error
    except Exception:
        _log.exception("answer failed")
    if not is_done:
        note_failure(span, problem)
        yield encode_event("error", problem_of(problem), event_id=event_id + 1)


def _note_answer(span: Span, answer: Answer) -> None:
    span.set_attributes(
        named(
            finish_reason=answer.finish_reason.value,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            citations=len(answer.citations),
            grounded=answer.grounded,
        )
    )


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
    return Problem(
        code=error.code,
        title=error.title,
        status=error.status,
        detail=error.detail,
        is_permanent=error.retry_after_s is None,
    )


def _event(told: Progress, model: str) -> tuple[str, BaseModel | dict[str, object]]:
    match told:
        case StepTaken(name, detail):
            return "step", {"name": name} if detail is None else {"name": name, "detail": detail}
        case TextAdded(text, completion_tokens):
            return "delta", {"text": text, "completion_tokens": completion_tokens}
        case Cited(citation):
            return "citation", citation
        case ToolCalled(piece):
            return "tool_call", CallPiece(**asdict(piece))
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
                summary_seq=told.summary_seq,
                caches=lookups_so_far(),
                tool_calls=tuple(FunctionCall(**asdict(call)) for call in told.tool_calls),
            )
