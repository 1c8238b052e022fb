"""One trace id a request: taken from `traceparent` or made, answered as `x-request-id`, logged."""

import time
from collections.abc import Callable
from contextvars import ContextVar

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planes.shared.telemetry import begin_trace
from services.gateway.admin.metrics import GatewayMetrics

_trace_id: ContextVar[str] = ContextVar("trace_id", default="")
_address: ContextVar[str] = ContextVar("address", default="")
_log = structlog.get_logger("access")


def current_trace_id() -> str:
    """Return the trace id of the request that is being answered, or "" outside of one."""
    return _trace_id.get()


def current_address() -> str:
    """Return where the request that is being answered came from, or "" outside of one."""
    return _address.get()


def begin_request(scope: Scope, traceparent: str | None) -> str:
    """Return the trace id of a request, which this task answers from now on."""
    trace_id = begin_trace(traceparent)
    _trace_id.set(trace_id)
    _address.set(scope["client"][0] if scope.get("client") else "")
    return trace_id


class RequestLog:
    """The access log, and the metrics of requests."""

    def __init__(self, metrics: GatewayMetrics) -> None:
        """Store where to count."""
        self._metrics = metrics

    def answered(self, scope: Scope, trace_id: str, status: int, started: float) -> None:
        """Count and log a request that began at `started`, by `time.perf_counter`."""
        elapsed_s = time.perf_counter() - started
        route = getattr(scope.get("route"), "path_format", "unmatched")
        self._metrics.observe(scope["method"], route, status, elapsed_s)
        _log.info(
            "request",
            trace_id=trace_id,
            method=scope["method"],
            route=route,
            status=status,
            ms=round(elapsed_s * 1000, 1),
        )


class TracingMiddleware:
    """Outermost layer: trace id, access log and request metrics."""

    def __init__(
        self,
        app: ASGIApp,
        log: RequestLog,
        unexpected: Callable[[Exception], Response],
    ) -> None:
        """Store the application below, its log, and what answers an unexpected error."""
        self._app = app
        self._log = log
        self._unexpected = unexpected

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        token, address_token = _trace_id.set(""), _address.set("")
        trace_id = begin_request(scope, Headers(scope=scope).get("traceparent"))
        started = time.perf_counter()
        status = 0

        async def send_traced(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = trace_id
            await send(message)

        try:
            await self._app(scope, receive, send_traced)
        except ClientDisconnect:
            _log.info("the client hung up", trace_id=trace_id)
        except Exception as error:
            response = self._unexpected(error)
            if status:
                raise
            await response(scope, receive, send_traced)
        finally:
            self._log.answered(scope, trace_id, status, started)
            _trace_id.reset(token)
            _address.reset(address_token)
