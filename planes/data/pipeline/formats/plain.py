"""Plain text in any encoding."""

import codecs

import charset_normalizer
import py3langid

from planes.data.pipeline.extracted import ExtractedText, storable
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "text/plain"
_BROKEN_SHARE = 0.01
_REPLACEMENT = "\ufffd"
# Encodings of Latin letters look alike to statistics; Windows-1252 is by far the commonest, and the
# language tells whether it fits.
_LATIN = ("cp125", "cp4", "cp8", "iso8859", "latin", "mac_")
_WESTERN = frozenset({"da", "de", "en", "es", "fi", "fr", "is", "it", "nl", "no", "pt", "sv"})
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def extract(content: bytes) -> ExtractedText:
    """Return the text as it is.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits.
    """
    return ExtractedText(storable(decode(content)))


def is_marked(content: bytes) -> bool:
    """Whether a byte order mark tells the encoding."""
    return any(content.startswith(mark) for mark, _ in _MARKS)


def decode(content: bytes) -> str:
    """Return the characters, by byte order mark, as UTF-8, or by the likeliest encoding.

    A few broken bytes in UTF-8 become U+FFFD and change nothing else.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits.
    """
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        return content.decode(marked)
    except UnicodeDecodeError:
        if (mended := _as_broken_utf8(content)) is not None:
            return mended
        best = charset_normalizer.from_bytes(content).best()
    if best is None:
        detail = "The file is not text in any known encoding. Save it as UTF-8 and upload it again."
        raise DocumentRejected("corrupt", detail)
    if best.encoding.startswith(_LATIN):
        western = content.decode("cp1252", "replace")
        if _REPLACEMENT not in western and py3langid.classify(western)[0] in _WESTERN:
            return western
    return str(best)


def _as_broken_utf8(content: bytes) -> str | None:
    """Return UTF-8 with replaced bytes, or None where it is more likely another encoding.

    Another encoding hardly ever forms UTF-8's sequences, so these must outnumber the broken bytes.
    """
    text = content.decode("utf-8-sig", "replace")
    broken = text.count(_REPLACEMENT)
    whole = sum(character > "\x7f" for character in text) - broken
    return text if broken < min(whole, _BROKEN_SHARE * len(text)) else None
