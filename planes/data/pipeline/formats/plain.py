"""Plain text in any encoding."""

import codecs

import charset_normalizer

from planes.data.pipeline.extracted import ExtractedText, storable
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "text/plain"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def extract(content: bytes) -> ExtractedText:
    """Return the text as it is.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits.
    """
    return ExtractedText(storable(decode(content)))


def decode(content: bytes) -> str:
    """Return the characters, by byte order mark, as UTF-8, or by the likeliest encoding.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits.
    """
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(marked)
    except UnicodeDecodeError:
        best = charset_normalizer.from_bytes(content).best()
    if best is None:
        detail = "The file is not text in any known encoding. Save it as UTF-8 and upload it again."
        raise DocumentRejected("corrupt", detail)
    return str(best)
