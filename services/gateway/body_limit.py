"""Bodies are counted while they arrive, before anything parses them."""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FORM_OVERHEAD_BYTES = 256 * 1024
_PART_OVERHEAD_BYTES = 1024
_FILE_PATHS = frozenset({"/documents", "/documents/upload"})
_BATCH_PATHS = frozenset({"/documents/batch", "/documents/batch-upload"})


class BodyLimitMiddleware:
    """Refuses bodies above a limit: of one file, of a batch, and a small one for all others."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        max_body_bytes: int,
        max_file_bytes: int,
        max_batch_bytes: int,
        max_batch_files: int,
    ) -> None:
        """Store the application below and the limits."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_form_bytes = max_file_bytes + _FORM_OVERHEAD_BYTES
        overhead = _FORM_OVERHEAD_BYTES + max_batch_files * _PART_OVERHEAD_BYTES
        self._max_batch_bytes = max_batch_bytes + overhead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with a `receive` that counts.

        Raises:
            HTTPException: 413, from the reader of the body.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["method"], scope["path"].removeprefix("/api/v1"))
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

    def _limit(self, method: str, path: str) -> int:
        """The path decides, not what the client says of its body; nobody else may send much."""
        if method == "POST" and path in _BATCH_PATHS:
            return self._max_batch_bytes
        is_content = method == "PUT" and path.startswith("/documents/")
        if is_content or (method == "POST" and path in _FILE_PATHS):
            return self._max_form_bytes
        return self._max_body_bytes
