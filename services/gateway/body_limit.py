"""Bodies are counted while they arrive, before anything parses them, and must not stall."""

import asyncio

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_FORM_OVERHEAD_BYTES = 256 * 1024
_FILE_PATHS = frozenset({"/documents", "/documents/upload"})


def _takes_files(scope: Scope) -> bool:
    """The path decides, not what the client says of its body; nobody else may send much."""
    return scope["method"] == "POST" and scope["path"].removeprefix("/api/v1") in _FILE_PATHS


class BodyLimitMiddleware:
    """Refuses bodies above a limit: one for file uploads, a smaller one for everything else.

    A body may arrive as slowly as it likes, but not stop.
    """

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int, max_file_bytes: int, idle_s: float
    ) -> None:
        """Store the application below, both limits, and how long a body may bring nothing."""
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_form_bytes = max_file_bytes + _FORM_OVERHEAD_BYTES
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with a `receive` that counts.

        Raises:
            HTTPException: 413 or 408, from the reader of the body.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._max_form_bytes if _takes_files(scope) else self._max_body_bytes
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "0")
        received = 0
        is_whole = declared == "0" and "transfer-encoding" not in headers

        async def receive_counted() -> Message:
            nonlocal received, is_whole
            message = await (receive() if is_whole else self._next_part(receive))
            is_whole = not message.get("more_body", False)
            received += len(message.get("body", b""))
            if received > limit or (declared.isdigit() and int(declared) > limit):
                raise HTTPException(413, f"The body is larger than {limit:,} bytes.")
            return message

        await self._app(scope, receive_counted, send)

    async def _next_part(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._idle_s):
                return await receive()
        except TimeoutError as error:
            detail = f"Nothing more of the body has come for {self._idle_s:g} seconds."
            raise HTTPException(408, detail, {"connection": "close"}) from error
