"""Which files the platform reads: decided by their first bytes together with their name."""

from pathlib import PurePosixPath

from planes.shared.errors import UnsupportedMediaType

PDF = "application/pdf"
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"

SNIFFED_BYTES = 4096
_BY_SUFFIX = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".html": HTML,
    ".htm": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
}
_ZIP = b"PK\x03\x04"
_COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # also how Office stores an encrypted DOCX
_UTF_16_OR_32 = (b"\xff\xfe", b"\xfe\xff")
_PRINTABLE_CONTROLS = frozenset(b"\t\n\r\f\v\x1b\x08")


def media_type_of(name: str, head: bytes) -> str:
    """Return the media type of a file.

    Args:
        name: Its name; the suffix says how text is to be read.
        head: Its first `SNIFFED_BYTES` bytes, or all of them.

    Raises:
        UnsupportedMediaType: Neither signature nor name is known, or they contradict each other.
    """
    suffix = PurePosixPath(name).suffix.lower()
    named = _BY_SUFFIX.get(suffix)
    if head.startswith(b"%PDF-") or (named == PDF and b"%PDF-" in head[:1024]):
        return _unless_named_otherwise(PDF, suffix)
    if named == DOCX and head.startswith((_ZIP, _COMPOUND_FILE)):
        return DOCX
    if named in (HTML, MARKDOWN, PLAIN) and _is_text(head):
        return str(named)
    if named is None:
        raise UnsupportedMediaType(
            f"Files named *{suffix or '(no suffix)'} cannot be read. Upload one of: "
            f"{', '.join(sorted(_BY_SUFFIX))}."
        )
    raise UnsupportedMediaType(f"The file is named *{suffix} but its content is something else.")


def _unless_named_otherwise(media_type: str, suffix: str) -> str:
    """Text suffixes give way to a signature; those of another format contradict it."""
    if _BY_SUFFIX.get(suffix, media_type) in (media_type, PLAIN):
        return media_type
    raise UnsupportedMediaType(f"The file is named *{suffix} but its content is {media_type}.")


def _is_text(head: bytes) -> bool:
    if head.startswith(_UTF_16_OR_32):
        return True
    controls = sum(1 for byte in head if byte < 32 and byte not in _PRINTABLE_CONTROLS)
    return controls == 0
