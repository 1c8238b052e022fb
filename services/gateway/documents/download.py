"""Files sent whole or in part (RFC 9110, 13.1.5 and 14)."""

import re
from email.utils import format_datetime
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

from services.gateway.documents.service import Content

_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def download(request: Request, content: Content, headers: dict[str, str]) -> Response:
    """Return the response to a request for a file.

    A request for several parts at once gets the whole file, as the RFC allows.
    """
    size = content.stat.size_bytes
    described = {
        **headers,
        "accept-ranges": "bytes",
        "content-disposition": f"attachment; filename*=UTF-8''{quote(content.name, safe='')}",
        "etag": f'"{content.stat.mark}"',
        "last-modified": format_datetime(content.stat.changed_at, usegmt=True),
    }
    start, end = _part(request, described, size)
    if start >= end and size:
        return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
    described["content-length"] = str(end - start)
    status = 200
    if (start, end) != (0, size):
        described["content-range"] = f"bytes {start}-{end - 1}/{size}"
        status = 206
    blocks = content.blocks(start, end)
    return StreamingResponse(blocks, status, described, content.media_type)


def _part(request: Request, described: dict[str, str], size: int) -> tuple[int, int]:
    """Return first byte and end of what is asked for; nothing where there is no such part."""
    asked = _ONE_RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    condition = request.headers.get("if-range")
    is_same = condition in {None, described["etag"], described["last-modified"]}
    if asked is None or not any(asked.groups()) or not is_same:
        return 0, size
    first, last = asked.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):  # no range at all
        return 0, size
    return int(first), min(size, int(last) + 1) if last else size
