"""What the first bytes of a file show of its format, whatever its name."""

import struct
import zlib
from collections.abc import Iterator

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
EPUB = "application/epub+zip"
OFFICE = frozenset({DOCX, PPTX, XLSX})
ZIPPED = OFFICE | {EPUB}

_ZIP = b"PK\x03\x04"
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FOREIGN = (  # as a person calls it; those that a text may begin with are told from texts first
    ("a program", (b"\x7fELF", b"MZ", b"\xfe\xed\xfa", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")),
    ("a picture", (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\x00", b"MM\x00*", b"RIFF")),
    ("an archive", (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")),
    ("a database", (b"SQLite format 3",)),
)
_LOCAL_HEADER = struct.Struct("<8xH8xI4xHH")  # APPNOTE.TXT 4.3.7: method, sizes
_DEFLATED = 8
_CONTENT_TYPES_BYTES = 256 << 10
_MAIN_PARTS = (
    (DOCX, b"wordprocessingml.document.main+xml"),
    (PPTX, b"presentationml.presentation.main+xml"),
    (XLSX, b"spreadsheetml.sheet.main+xml"),
)
_FOLDERS = (("word/", DOCX), ("ppt/", PPTX), ("xl/", XLSX), ("META-INF/container.xml", EPUB))


def is_zip(head: bytes) -> bool:
    """Whether a file is a ZIP archive."""
    return head.startswith(_ZIP)


def is_compound_file(head: bytes) -> bool:
    """Whether a file is of Office before 2007, which also wraps encrypted documents."""
    return head.startswith(_COMPOUND_FILE)


def foreign_format(head: bytes) -> str:
    """Return what a binary file is that the platform does not read, in words."""
    for name, signatures in _FOREIGN:
        if head.startswith(signatures):
            return name
    return "an archive" if is_zip(head) else "not text"


def zipped_type(head: bytes) -> str | None:
    """Return the media type of an office document or book by the first members of its archive.

    None: they do not show it.
    """
    for name, method, start in _members(head):
        if name == "mimetype":
            return EPUB if _unpacked(head[start:], method).startswith(EPUB.encode()) else None
        if name == "[Content_Types].xml":
            content = _unpacked(head[start:], method)
            return next((kind for kind, part in _MAIN_PARTS if part in content), None)
        for folder, kind in _FOLDERS:
            if name.startswith(folder):
                return kind
    return None


def _members(head: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield name, method and where the content begins of each member that begins in `head`."""
    place = 0
    while place >= 0 and head.startswith(_ZIP, place) and len(head) >= place + 30:
        method, size, name_size, extra_size = _LOCAL_HEADER.unpack_from(head, place)
        start = place + 30 + name_size + extra_size
        name = head[place + 30 : place + 30 + name_size].decode("utf-8", "replace")
        yield name, method, start
        place = start + size if size else head.find(_ZIP, start)


def _unpacked(content: bytes, method: int) -> bytes:
    if method != _DEFLATED:
        return content[:_CONTENT_TYPES_BYTES]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, _CONTENT_TYPES_BYTES)
    except zlib.error:
        return b""
