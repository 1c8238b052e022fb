"""Bodies are counted while they arrive, before anything parses them."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FORM_OVERHEAD_BYTES = 256 * 1024
_FILE_PATHS = frozenset({"/documents", "/documents/upload"})


def _takes_files(scope: Scope) -> bool:
    """The path decides, not what the client says of its body; nobody else may send much."""
    return scope["method"] == "POST" and scope["path"].removeprefix("/api/v1") in _FILE_PATHS


class BodyLimitMiddleware:
    """Refuses bodies above a limit: one for file uploads, a smaller one for everything else."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_file_bytes: int) -> None:
        """Store the application below and both limits."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_form_bytes = max_file_bytes + _FORM_OVERHEAD_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with a `receive` that counts.

        Raises:
            HTTPException: 413, from the reader of the body.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_form_bytes if _takes_files(scope) else self._max_body_bytes
        declared = Headers(scope=scope).get("content-length", "0")
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit or (declared.isdigit() and int(declared) > limit):
                raise HTTPException(413, f"The body is larger than {limit:,} bytes.")
            return message

        await self._app(scope, receive_counted, send)
