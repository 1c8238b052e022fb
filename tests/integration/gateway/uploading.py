"""What tests of uploads share: what is stored, what is in the registry, and odd bodies."""

import asyncio
import io
from collections.abc import Iterable
from urllib.parse import urlsplit
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import asyncpg

from tests.integration.gateway.conftest import Gateway, Person

TABLES = ("documents", "document_versions", "jobs", "job_items", "uploads")
BOUNDARY = "a-boundary"


def files_of(gateway: Gateway) -> list[str]:
    """Return the names of all files in the object store."""
    return [path.name for path in gateway.objects_dir.rglob("*") if path.is_file()]


async def expect_nothing(gateway: Gateway, admin: asyncpg.Connection) -> None:
    """Expect that neither a file nor a row is there."""
    assert files_of(gateway) == []
    counts = {table: await admin.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}  # noqa: S608
    assert counts == dict.fromkeys(TABLES, 0)
    used = await admin.fetchrow(
        "SELECT sum(documents_used) AS documents, sum(storage_bytes_used) AS bytes FROM tenants"
    )
    assert (used["documents"], used["bytes"]) == (0, 0)


def zipped(members: Iterable[tuple[str | ZipInfo, bytes]]) -> bytes:
    """Return a ZIP archive of (name, content)s."""
    buffer = io.BytesIO()
    with ZipFile(buffer, "w", ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def part(disposition: str, content: bytes) -> bytes:
    """Return one part of a form."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: {disposition}\r\n\r\n"
    return head.encode() + content + b"\r\n"


async def hang_up_after(person: Person, path: str, body: bytes) -> None:
    """Begin to send a form of which more is announced, and hang up."""
    target = urlsplit(str(person.http.base_url))
    _, writer = await asyncio.open_connection(target.hostname, target.port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body) + 1000}\r\n"
        f"Authorization: {person.http.headers['authorization']}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n".encode()
        + body
    )
    await writer.drain()
    await asyncio.sleep(0.2)  # so that it arrives before the end of the connection does
    writer.close()
    await writer.wait_closed()
