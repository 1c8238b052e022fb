"""Structured logs and W3C trace context (https://www.w3.org/TR/trace-context/)."""

import logging
import secrets
import sys

import structlog


def configure_logging(service: str, level: str = "INFO") -> None:
    """Write one JSON object a line to standard error, for this process and its libraries."""
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, which hold secrets
    structlog.contextvars.bind_contextvars(service=service)


def new_trace_id() -> str:
    """Return 32 lower-case hexadecimal digits."""
    return secrets.token_hex(16)


def traceparent(trace_id: str) -> str:
    """Return the `traceparent` header that starts a new span of `trace_id`."""
    return f"00-{trace_id}-{secrets.token_hex(8)}-01"


def trace_id_of(header: str | None) -> str | None:
    """Return the trace id of a well-formed `traceparent` header, else None."""
    parts = (header or "").split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or parts[1] == "0" * 32:
        return None
    return parts[1] if all(c in "0123456789abcdef" for c in parts[1]) else None
