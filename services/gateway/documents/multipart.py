"""Multipart forms (RFC 7578) read part by part while they arrive; nothing is kept."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from planes.shared.errors import BadRequest


@dataclass(frozen=True, slots=True)
class Part:
    """The head of a part; `filename` is None where it is a field."""

    name: str
    filename: str | None


class MultipartForm:
    """Reads one form: `next_part`, then `read` until it is empty, and so on.

    What a caller leaves of a part is read and forgotten. At most one piece of the body is in
    memory.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        """Store where the body comes from.

        Args:
            content_type: The header of that name.
            body: Pieces of the body, as the server hands them over.

        Raises:
            BadRequest: It is no form, or it has no usable boundary.
        """
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data":
            raise BadRequest("Send the files as multipart/form-data.")
        if not options.get(b"boundary"):
            raise BadRequest("The header `Content-Type` names no boundary.")
        self._body = body
        self._events: deque[Part | bytes | None] = deque()  # None: the end of a part
        self._header_name = self._header_value = b""
        self._disposition = b""
        self._is_complete = self._is_in_part = False
        self._parser = self._new_parser(options[b"boundary"])

    async def next_part(self) -> Part | None:
        """Return the next part, or None after the last.

        Raises:
            BadRequest: The body is malformed, or ends too early.
        """
        while await self.read():
            pass
        event = await self._next_event()
        self._is_in_part = event is not None
        assert not isinstance(event, bytes)  # noqa: S101 (content stands within a part)
        return event

    async def read(self) -> bytes:
        """Return the next piece of the part's content; empty at its end.

        Raises:
            BadRequest: As in `next_part`.
        """
        if not self._is_in_part:
            return b""
        event = await self._next_event()
        if isinstance(event, bytes):
            return event
        self._is_in_part = False
        return b""

    async def _next_event(self) -> Part | bytes | None:
        while not self._events:
            if not await self._feed():
                return None
        return self._events.popleft()

    async def _feed(self) -> bool:
        """Parse one more piece of the body; False when the form and its body have ended."""
        piece = await anext(self._body, b"")
        if not piece:
            if not self._is_complete:
                raise BadRequest("The form ends before its last boundary.")
            return False
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise BadRequest("The form is not well-formed.") from error
        return True

    def _new_parser(self, boundary: bytes) -> MultipartParser:
        try:
            return MultipartParser(
                boundary,
                {
                    "on_part_data": self._on_data,
                    "on_part_end": lambda: self._events.append(None),
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise BadRequest("The boundary of the form is too long.") from error

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self._events.append(bytes(data[start:end]))

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._disposition)
        self._disposition = b""
        if kind != b"form-data" or b"name" not in options:
            raise BadRequest("Each part of the form needs a name in `Content-Disposition`.")
        filename = options.get(b"filename")
        name = _decoded(options[b"name"])
        self._events.append(Part(name, None if filename is None else _decoded(filename)))

    def _on_end(self) -> None:
        self._is_complete = True


def _decoded(text: bytes) -> str:
    """Return UTF-8 as nearly every client sends it, else Latin-1."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
