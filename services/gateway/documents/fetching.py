"""Fetching a file from an address that a client names.

Which hosts may be reached is the business of `outbound`; every redirect goes through it again.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from urllib.parse import unquote

import httpx

from planes.shared.errors import ContentTooLarge, Forbidden, InvalidInput
from services.gateway.documents.uploads import Read

_TOTAL_S = 30.0
_MAX_REDIRECTS = 5
_MAX_URL_CHARS = 2048
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "Polyplane"}


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file that is being received, with the type that its server says it has."""

    name: str
    media_type: str
    read: Read


class UrlFetcher:
    """Opens files by their addresses."""

    def __init__(self, client: httpx.AsyncClient, *, max_bytes: int, is_enabled: bool) -> None:
        """Store how to reach hosts.

        Args:
            client: Of `outbound_client`: it checks every address and follows nothing by itself.
            max_bytes: Largest file.
            is_enabled: Whether the operator allows this at all.
        """
        self._client = client
        self._max_bytes = max_bytes
        self._is_enabled = is_enabled

    @asynccontextmanager
    async def open(self, url: str) -> AsyncIterator[RemoteFile]:
        """Yield the file at an address; all that the block does takes at most 30 seconds.

        Raises:
            Forbidden: The operator has turned this off.
            InvalidInput: The address, or what is there, cannot be taken.
            ContentTooLarge: The server announces more than the limit.
        """
        if not self._is_enabled:
            raise Forbidden("Documents are not fetched by their addresses on this platform.")
        try:
            async with asyncio.timeout(_TOTAL_S), self._final(_checked(url)) as response:
                media_type = response.headers.get("content-type", "").lower()
                yield RemoteFile(_name(response), media_type, self._reader(response))
        except TimeoutError as error:
            raise InvalidInput(f"The file did not arrive within {_TOTAL_S:.0f} seconds.") from error
        except httpx.TimeoutException as error:
            raise InvalidInput("The server does not answer in time.") from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # of redirects, too
            raise InvalidInput("The file cannot be fetched from there.") from error

    @asynccontextmanager
    async def _final(self, url: httpx.URL) -> AsyncIterator[httpx.Response]:
        """Yield the answer after all redirects."""
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._client.stream("GET", url, headers=_HEADERS) as response:
                if response.status_code not in _REDIRECTS:
                    self._check(response)
                    yield response
                    return
                url = _checked(str(url.join(response.headers.get("location", ""))))
        raise InvalidInput(f"The address redirects more than {_MAX_REDIRECTS} times.")

    def _check(self, response: httpx.Response) -> None:
        if response.status_code != 200:
            raise InvalidInput(f"The server there answers {response.status_code}, and not 200.")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise InvalidInput("The server sends the file compressed, although asked not to.")
        length = response.headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._max_bytes:
            raise ContentTooLarge(f"The file is larger than {self._max_bytes:,} bytes.")

    def _reader(self, response: httpx.Response) -> Read:
        pieces = response.aiter_raw()

        async def read() -> bytes:
            async for piece in pieces:
                if piece:
                    return piece
            return b""

        return read


def _checked(url: str) -> httpx.URL:
    """Return an address that may be asked for, as far as it shows itself.

    Raises:
        InvalidInput: It may not.
    """
    if len(url) > _MAX_URL_CHARS or not url.isprintable():
        raise InvalidInput(f"An address has at most {_MAX_URL_CHARS} printable characters.")
    try:
        parsed = httpx.URL(url)
        host = parsed.host
    except (httpx.InvalidURL, UnicodeError) as error:  # the latter: no name in IDNA
        raise InvalidInput("This is no address.") from error
    if parsed.scheme not in {"http", "https"} or not host:
        raise InvalidInput("The address must begin with http:// or https:// and a host.")
    if parsed.userinfo:
        raise InvalidInput("The address must not hold a user name or a password.")
    return parsed.copy_with(fragment=None)


def _name(response: httpx.Response) -> str:
    """Return the file's name: the server's, else the path's, else the host's."""
    path = response.url.raw_path.partition(b"?")[0].decode("ascii")
    given = _attachment_name(response.headers.get("content-disposition", ""))
    return given or unquote(path.rpartition("/")[2]) or response.url.host


def _attachment_name(disposition: str) -> str:
    """Return the file name of a `Content-Disposition` (RFC 6266), or nothing."""
    message = Message()
    message["content-disposition"] = disposition.replace("\r", " ").replace("\n", " ")
    try:
        return message.get_filename("")
    except (TypeError, ValueError):  # numbered parts (RFC 2231) that make no sense
        return ""
