"""A plain request has one deadline for all that it asks of the database."""

from starlette.types import ASGIApp, Receive, Scope, Send

from planes.shared.deadlines import task_within

_READS = frozenset({"GET", "HEAD"})
# They wait for the serving plane, for a client's file or for somebody else's server in between;
# exports and streams take as long as they take.
_WAIT_FOR_OTHERS = ("/chat", "/conversations", "/search", "/query", "/v1/", "/auth/oidc")
_WRITES_WAIT_FOR_OTHERS = (
    "/documents",
    "/ingest",
    "/billing",
    "/jobs/process-document",
    "/webhooks",
)


class PlainDeadlineMiddleware:
    """Bounds requests that wait for PostgreSQL and Redis alone."""

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        """Store the application below and the deadline."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not _is_plain(scope["method"], scope["path"]):
            await self._app(scope, receive, send)
            return
        with task_within(self._seconds):
            await self._app(scope, receive, send)


def _is_plain(method: str, path: str) -> bool:
    path = path.removeprefix("/api/v1")
    if path.startswith(_WAIT_FOR_OTHERS) or path.endswith(("/export", "/events")):
        return False
    return method in _READS or not path.startswith(_WRITES_WAIT_FOR_OTHERS)
