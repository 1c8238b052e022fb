"""Spans of an answer and its steps, sent to an OpenTelemetry collector.

They hold ids, counts and names, never text of a question, a document or an answer. They travel as
OTLP over HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp), from a thread and a bounded
queue: a collector that is slow or absent costs spans, never an answer.
"""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, ParamSpec, TypeAlias, TypeVar

from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    INVALID_SPAN,
    Span,
    SpanKind,
    StatusCode,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from planes.shared.errors import PlatformError
from planes.shared.telemetry import new_trace_id, trace_id_of

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_SERVICE = "polyplane-serving"
_EXPORT_S = 2.0  # of one batch, its retries included
_FLUSH_S = 1.0
_tracer: ContextVar[Tracer | None] = ContextVar("tracer", default=None)
_root_trace: ContextVar[str] = ContextVar("root_trace", default="")
_propagator = TraceContextTextMapPropagator()

P = ParamSpec("P")
T = TypeVar("T")
Value: TypeAlias = str | int | bool


class Tracing:
    """Where a replica's spans go; without an address there are none."""

    def __init__(self, address: str | None) -> None:
        """Store the collector's address, such as `http://127.0.0.1:4318`; `open` starts to send."""
        self._address = address
        self._provider: TracerProvider | None = None

    def open(self) -> None:
        """Start the thread that sends, where there is an address."""
        if self._address:
            from planes.serving.span_export import provider_for

            # its packages take memory that a plane without a collector need not have
            self._provider = provider_for(
                self._address, service=_SERVICE, export_s=_EXPORT_S, root_trace=_root_trace.get
            )

    def begin(self, traceparent: str | None) -> None:
        """Let the spans of the present request be of its trace; call it in the request's own task.

        A caller that records (the flag `sampled`) is their parent; else they begin the trace.
        """
        if self._provider is None:
            return
        _tracer.set(self._provider.get_tracer(_SERVICE))
        _root_trace.set(trace_id_of(traceparent) or new_trace_id())
        parent = _propagator.extract({"traceparent": traceparent or ""}, Context())
        is_recorded = get_current_span(parent).get_span_context().trace_flags.sampled
        attach(parent if is_recorded else Context())

    async def flush(self) -> None:
        """Send what waits, for at most a second."""
        if self._provider is not None:
            sending = asyncio.ensure_future(asyncio.to_thread(self._provider.force_flush))
            await asyncio.wait({sending}, timeout=_FLUSH_S)

    async def close(self) -> None:
        """Send what waits and end the thread: a few seconds where nobody takes it."""
        if self._provider is not None:
            await asyncio.to_thread(self._provider.shutdown)


def begin_span(name: str, **attributes: Value) -> Span:
    """Return a span that is the parent of the request's further ones; the caller ends it.

    For generators, whose `finally` may run in another task, where `span` would not be closed.
    """
    tracer = _tracer.get()
    if tracer is None:
        return INVALID_SPAN
    begun = tracer.start_span(name, kind=SpanKind.SERVER, attributes=named(**attributes))
    attach(set_span_in_context(begun))
    return begun


@contextmanager
def span(name: str, **attributes: Value) -> Iterator[Span]:
    """Open a span around a step; a failure is told by its code alone."""
    tracer = _tracer.get()
    if tracer is None:
        yield INVALID_SPAN
        return
    with tracer.start_as_current_span(
        name,
        attributes=named(**attributes),
        record_exception=False,  # its message may hold text
        set_status_on_exception=False,
    ) as opened:
        try:
            yield opened
        except Exception as error:
            note_failure(opened, error)
            raise


def note(**attributes: Value) -> None:
    """Add attributes to the present span, where there is one."""
    if _tracer.get() is not None:
        get_current_span().set_attributes(named(**attributes))


def note_event(name: str) -> None:
    """Add a moment to the present span, where there is one."""
    if _tracer.get() is not None:
        get_current_span().add_event(name)


def note_failure(failed: Span, error: Exception) -> None:
    """Mark a span as failed."""
    code = error.code if isinstance(error, PlatformError) else type(error).__name__
    failed.set_status(StatusCode.ERROR, code)


def traced(step: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Return a step that runs in a span of its name."""

    @functools.wraps(step)
    async def in_span(*args: P.args, **kwargs: P.kwargs) -> T:
        with span(step.__name__):
            return await step(*args, **kwargs)

    return in_span


def traced_choice(choose: Callable[P, T]) -> Callable[P, T]:
    """Return a choice of the next step, which a span of its name tells."""

    @functools.wraps(choose)
    def in_span(*args: P.args, **kwargs: P.kwargs) -> T:
        with span(choose.__name__):
            chosen = choose(*args, **kwargs)
            note(next=str(chosen))
            return chosen

    return in_span


def named(**attributes: Value) -> dict[str, Value]:
    """Return attributes under their full names."""
    return {f"polyplane.{name}": value for name, value in attributes.items()}
