"""Bodies are counted while they arrive, before anything parses them, and must not stall."""

import asyncio
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FORM_OVERHEAD_BYTES = 256 * 1024
_PART_OVERHEAD_BYTES = 1024
_FILE_PATHS = frozenset({"/documents", "/documents/upload"})
_BATCH_PATHS = frozenset({"/documents/batch", "/documents/batch-upload"})


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How large bodies may be, in bytes, and how many files a batch may hold."""

    body_bytes: int
    file_bytes: int
    batch_bytes: int
    batch_files: int


class BodyLimitMiddleware:
    """Refuses bodies above a limit: of one file, of a batch, and a small one for all others.

    A body may arrive as slowly as it likes, but not stop.
    """

    def __init__(self, app: ASGIApp, *, limits: BodyLimits, idle_s: float) -> None:
        """Store the application below, the limits, and how long a body may bring nothing."""
        self._app = app
        self._max_body_bytes = limits.body_bytes
        self._max_form_bytes = limits.file_bytes + _FORM_OVERHEAD_BYTES
        overhead = _FORM_OVERHEAD_BYTES + limits.batch_files * _PART_OVERHEAD_BYTES
        self._max_batch_bytes = limits.batch_bytes + overhead
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with a `receive` that counts.

        Raises:
            HTTPException: 413 or 408, from the reader of the body.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit(scope["method"], scope["path"].removeprefix("/api/v1"))
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "0")
        received = 0
        is_whole = declared == "0" and "transfer-encoding" not in headers

        async def receive_counted() -> Message:
            nonlocal received, is_whole
            message = await (receive() if is_whole else next_part(receive, self._idle_s))
            is_whole = not message.get("more_body", False)
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


async def next_part(receive: Receive, idle_s: float) -> Message:
    """Receive the next part of a body.

    Raises:
        HTTPException: 408, nothing has come for so long.
    """
    try:
        async with asyncio.timeout(idle_s):
            return await receive()
    except TimeoutError as error:
        detail = f"Nothing more of the body has come for {idle_s:g} seconds."
        raise HTTPException(408, detail, {"connection": "close"}) from error
