"""The sending end of spans: OpenTelemetry's SDK, which is imported with this module alone."""

from collections.abc import Callable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator


def provider_for(
    address: str, *, service: str, export_s: float, root_trace: Callable[[], str]
) -> TracerProvider:
    """Return what makes spans and sends them to the collector at `address`, in a thread.

    Args:
        address: The base of an OTLP/HTTP receiver, without `/v1/traces`.
        service: The spans' `service.name`.
        export_s: Most seconds for one batch, its retries included.
        root_trace: Tells the trace id of a span without a parent.
    """
    exporter = OTLPSpanExporter(f"{address.rstrip('/')}/v1/traces", timeout=export_s)
    provider = TracerProvider(
        resource=Resource.create({SERVICE_NAME: service}),
        id_generator=_KnownTraces(root_trace),
        shutdown_on_exit=False,  # it would hold a process that is to end
    )
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


class _KnownTraces(RandomIdGenerator):
    """Begins the trace that the request names, so that its log lines lead to its spans."""

    def __init__(self, root_trace: Callable[[], str]) -> None:
        self._root_trace = root_trace

    def generate_trace_id(self) -> int:
        return int(self._root_trace(), 16)
