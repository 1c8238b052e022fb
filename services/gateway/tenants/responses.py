"""Archives as HTTP answers."""

from collections.abc import AsyncGenerator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

_TAR = "application/x-tar"
TAR_RESPONSE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The archive.",
        "content": {_TAR: {"schema": {"type": "string", "format": "binary"}}},
    }
}


class TarResponse(StreamingResponse):
    """Sends an archive while it is made; a client that hangs up ends the making."""

    def __init__(self, blocks: AsyncGenerator[bytes, None], filename: str) -> None:
        """Store the archive and the name under which browsers keep it."""
        headers = {
            "content-disposition": f'attachment; filename="{filename}"',
            "cache-control": "no-store",
        }
        super().__init__(blocks, media_type=_TAR, headers=headers)
        self._blocks = blocks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._blocks.aclose()
