"""What HTTP asks of every request and of every answer, whatever the route."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from planes.shared.errors import BadRequest, PlatformError, UnsupportedMediaType
from services.gateway.problems import problem_response

PROTECTING = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""What every answer says that has none of its own; some may be kept."""

_MAY_BE_KEPT = ("/docs", "/redoc", "/openapi.json", "/static-offline-docs/")


class HttpRulesMiddleware:
    """Refuses what cannot be understood, answers HEAD like GET, and protects every answer.

    A HEAD ends with its head (RFC 9110, 9.3.2): what would stream for long is told that its
    client has gone.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Store the application below."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        keeps_nothing = not scope["path"].startswith(_MAY_BE_KEPT)

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                if keeps_nothing:
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        problem = _problem_of(scope)
        if problem is not None:
            await problem_response(problem)(scope, receive, send_protected)
        elif scope["method"] == "HEAD":
            await self._answer_head(scope, receive, send_protected)
        else:
            await self._app(scope, receive, send_protected)

    async def _answer_head(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_ended = False

        async def send_head(message: Message) -> None:
            nonlocal has_ended
            if has_ended:
                return
            await send(message)
            if message["type"] == "http.response.start":
                has_ended = True
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        as_get = {**scope, "method": "GET"}
        await self._app(as_get, receive, send_head)
        scope["route"] = as_get.get("route")  # for the access log


def _problem_of(scope: Scope) -> PlatformError | None:
    """Return what is wrong with the fields of a request's head."""
    hosts, encodings = 0, []
    for name, value in scope["headers"]:
        if name == b"host":
            hosts += 1
        elif name == b"content-encoding" and value.strip().lower() not in {b"", b"identity"}:
            encodings.append(value.decode("latin-1"))
    if hosts > 1 or (hosts == 0 and scope["http_version"] == "1.1"):
        return BadRequest("The request needs one Host header (RFC 9112, 3.2).")
    if encodings:
        coding = ", ".join(encodings)
        problem = UnsupportedMediaType(f"Bodies are taken as they are, not in coding '{coding}'.")
        problem.headers = {"accept-encoding": "identity"}
        return problem
    return None
