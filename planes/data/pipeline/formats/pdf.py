"""PDF by pdfium, and by pypdf where pdfium cannot read the file."""

import io
from collections.abc import Iterator

import pypdf
import pypdfium2
import pypdfium2.raw

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "application/pdf"
_ENCRYPTED = "The PDF is protected by a password. Remove the protection and upload it again."
_CORRUPT = "The file is damaged or is not a PDF, so it cannot be read."
_PDFIUM_HYPHENS = str.maketrans("", "", "\x02\ufffe")  # marks a word that a line break divides


def extract(content: bytes) -> ExtractedText:
    """Return the text page by page.

    Raises:
        DocumentRejected: `encrypted` or `corrupt`.
    """
    try:
        pages = list(_pages_by_pdfium(content))
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentRejected("encrypted", _ENCRYPTED) from error
        pages = _pages_by_pypdf(content)
    builder = TextBuilder()
    for page in pages:
        builder.add_page(page)
    return builder.build()


def _pages_by_pdfium(content: bytes) -> Iterator[str]:
    with pypdfium2.PdfDocument(content) as document:
        for index in range(len(document)):
            page = document[index]
            yield str(page.get_textpage().get_text_range()).translate(_PDFIUM_HYPHENS)
            page.close()


def _pages_by_pypdf(content: bytes) -> list[str]:
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentRejected("encrypted", _ENCRYPTED)
        pages = [page.extract_text() for page in reader.pages]
    except (pypdf.errors.PyPdfError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DocumentRejected("corrupt", _CORRUPT) from error
    if not pages:
        raise DocumentRejected("corrupt", _CORRUPT)
    return pages
