"""Structured logs and W3C trace context (https://www.w3.org/TR/trace-context/)."""

import json
import logging
import random
import re
import secrets
import sys
from collections.abc import Callable
from contextvars import ContextVar

import orjson
import structlog

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_caller: ContextVar[str | None] = ContextVar("caller", default=None)


def configure_logging(service: str, level: str = "INFO") -> None:
    """Write one JSON object a line to standard error, for this process and its libraries.

    Our own loggers write their lines themselves. By way of the standard library's, which those of
    libraries take, a line costs several times as much, and every request has one.
    """
    structlog.configure(
        processors=_PROCESSORS,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=_Lines,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_COMMON],
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


class _Lines(structlog.BytesLogger):
    """Writes lines to standard error, as a logger of this name."""

    def __init__(self, name: str = "") -> None:
        """Store the name."""
        super().__init__(sys.stderr.buffer)
        self.name = name


def _add_name(
    logger: _Lines, _: str, line: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    line["logger"] = logger.name
    return line


def _as_json(line: structlog.typing.EventDict, default: Callable[[object], object]) -> bytes:
    """Return a line; what orjson does not hold, such as lone surrogates, by the slow way."""
    try:
        return orjson.dumps(line, default=default)
    except TypeError:
        return json.dumps(line, default=default).encode()


_COMMON: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
]
# One list for the process: a logger keeps the list it first wrote with.
_PROCESSORS: list[structlog.typing.Processor] = [
    *_COMMON,
    _add_name,
    structlog.processors.JSONRenderer(serializer=_as_json),
]


def new_trace_id() -> str:
    """Return 32 lower-case hexadecimal digits."""
    return secrets.token_hex(16)


def begin_trace(header: str | None) -> str:
    """Return the trace id of a request: its caller's, or a new one where `traceparent` names none.

    Calls that the same task makes in turn have the caller's span as their parent.
    """
    trace_id = trace_id_of(header)
    _caller.set(header if trace_id else None)
    return trace_id or new_trace_id()


def traceparent(trace_id: str) -> str:
    """Return the `traceparent` header of a call that belongs to `trace_id`.

    Its parent is the caller's span; where the caller named none, the header says that nobody
    records the parent (the flag `sampled` is not set), and the called begins the trace.
    """
    caller = _caller.get()
    if caller is not None and trace_id_of(caller) == trace_id:
        return caller
    span = random.getrandbits(64) or 1  # nosec B311 (no secret); all zeros is no span
    return f"00-{trace_id}-{span:016x}-00"


def trace_id_of(header: str | None) -> str | None:
    """Return the trace id of a well-formed `traceparent` header, else None."""
    found = _TRACEPARENT.fullmatch(header or "")
    return found[1] if found else None
