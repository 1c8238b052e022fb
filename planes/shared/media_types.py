"""Which files the platform reads: decided by their first bytes together with their name.

A name that lies is refused. Formats of plain text differ by little more than their names, so that
there the name decides. What the first bytes cannot show is found out when the file is read, which
then fails with a reason.
"""

import codecs
import re
from pathlib import PurePosixPath

from planes.shared import signatures
from planes.shared.errors import UnsupportedMediaType
from planes.shared.signatures import DOCX, EPUB, OFFICE, PDF, PPTX, XLSX, ZIPPED

EMAIL = "message/rfc822"
JSON = "application/json"
JSON_LINES = "application/x-ndjson"
CSV = "text/csv"
TSV = "text/tab-separated-values"
HTML = "text/html"
MARKDOWN = "text/markdown"
PLAIN = "text/plain"

SNIFFED_BYTES = 64 << 10
_BY_SUFFIX = {
    ".pdf": PDF,
    ".docx": DOCX,
    ".pptx": PPTX,
    ".xlsx": XLSX,
    ".epub": EPUB,
    ".eml": EMAIL,
    ".json": JSON,
    ".jsonl": JSON_LINES,
    ".ndjson": JSON_LINES,
    ".csv": CSV,
    ".tsv": TSV,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": PLAIN,
    ".text": PLAIN,
}
_BY_DECLARATION = {
    **{media_type: media_type for media_type in _BY_SUFFIX.values()},
    "application/xhtml+xml": HTML,
}
_CALLED = {
    PDF: "a PDF",
    DOCX: "a Word document",
    PPTX: "a PowerPoint presentation",
    XLSX: "an Excel workbook",
    EPUB: "an EPUB book",
}
_MARKS = (  # the longer ones first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(r"[^\t\n\r\f\v\x1b\x08\x20-\U0010ffff]")
_RICH_TEXT = re.compile(r"\{\\rtf")
_WEB_PAGE = re.compile(r"\s*<(?:!doctype html|html)\b", re.IGNORECASE)
_JSON_VALUE = re.compile(r"\s*(?:[\[{\"\d]|-\d|true|false|null)")
_MESSAGE = re.compile(r"(?:From .*\r?\n)?[!-9;-~]+[ \t]*:")  # RFC 5322; `From ` as mailboxes have


def media_type_of(name: str, head: bytes, *, declared: str = "") -> str:
    """Return the media type of a file.

    Args:
        name: Its name; the suffix says how text is to be read.
        head: Its first `SNIFFED_BYTES` bytes, or all of them.
        declared: The `Content-Type` that came with it; it counts where the name has no known
            suffix.

    Raises:
        UnsupportedMediaType: Neither name nor content is known, or they contradict each other.
    """
    suffix = PurePosixPath(name).suffix.lower()
    named = _BY_SUFFIX.get(suffix) or _BY_DECLARATION.get(declared.partition(";")[0].strip())
    if named is None or named in _CALLED or _signed(head):
        return _binary_type(named, head, suffix)
    text = _text(head)
    if text is None:
        raise _contradiction(suffix, signatures.foreign_format(head))
    if other := _other_text(named, text):
        raise _contradiction(suffix, other)
    return named


def _binary_type(named: str | None, head: bytes, suffix: str) -> str:
    """Return the type that a signature shows, which must be the one that the name says."""
    found = _signed(head)
    if found is None and named == PDF and b"%PDF-" in head[:1024]:
        found = PDF
    if found is None and named in ZIPPED and signatures.is_zip(head):
        found = named  # its parser looks at all members
    if found is None and named in OFFICE and signatures.is_compound_file(head):
        found = named  # encrypted, which the document's state will tell
    if found is not None and named in (found, None):
        return found
    if named is None:
        raise UnsupportedMediaType(
            f"Files named *{suffix or '(no suffix)'} cannot be read. Upload one of: "
            f"{', '.join(sorted(_BY_SUFFIX))}."
        )
    if found is not None:
        raise _contradiction(suffix, _CALLED[found])
    is_text = _text(head) is not None
    raise _contradiction(suffix, "plain text" if is_text else signatures.foreign_format(head))


def _signed(head: bytes) -> str | None:
    if head.startswith(b"%PDF-"):
        return PDF
    return signatures.zipped_type(head) if signatures.is_zip(head) else None


def _text(head: bytes) -> str | None:
    """Return the beginning of a text, or None where there are bytes that no text has."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "latin-1")
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.search(text) else text.removeprefix("ï»¿")


def _other_text(named: str, text: str) -> str | None:
    """Return what a text is, in words, where it cannot be what the name says."""
    if _RICH_TEXT.match(text):
        return "rich text (RTF)"
    if named in (CSV, TSV, JSON, JSON_LINES, EMAIL) and _WEB_PAGE.match(text):
        return "a web page"
    if named in (JSON, JSON_LINES) and text.strip() and not _JSON_VALUE.match(text):
        return "not JSON"
    if named == EMAIL and not _MESSAGE.match(text):
        return "not an e-mail message"
    return None


def _contradiction(suffix: str, found: str) -> UnsupportedMediaType:
    said = f"is named *{suffix}" if suffix in _BY_SUFFIX else "came with another type"
    return UnsupportedMediaType(f"The file {said} but its content is {found}.")
