"""PDF by pdfium; by pypdf where pdfium cannot read the file or finds no text; by OCR at last."""

import io
import time
from collections.abc import Sequence

import pypdf
import pypdfium2
import pypdfium2.raw

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.data.pipeline.formats import bookmarks, ocr
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "application/pdf"
_ENCRYPTED = "The PDF is protected by a password. Remove the protection and upload it again."
_CORRUPT = "The file is damaged or is not a PDF, so it cannot be read."
_PDFIUM_HYPHENS = str.maketrans("", "", "\x02\ufffe")  # marks a word that a line break divides
_SECOND_LOOK_S = 5.0  # by pypdf, for text that pdfium does not see; scans have none


def extract(content: bytes) -> ExtractedText:
    """Return the text page by page; what bookmarks name are headings.

    Pages that are pictures are read where OCR is installed.

    Raises:
        DocumentRejected: `encrypted` or `corrupt`.
    """
    try:
        with pypdfium2.PdfDocument(content) as document:
            pages = _pages_by_pdfium(document)
            if not any(map(_has_words, pages)):
                pages = _second_look(content) or pages
            if ocr.engine() is not None:
                pages = _with_pictures_read(document, pages)
            return bookmarks.with_headings(_joined(pages), bookmarks.of(document))
    except pypdfium2.PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise DocumentRejected("encrypted", _ENCRYPTED) from error
        return _joined(_pages_by_pypdf(content))


def _joined(pages: Sequence[str]) -> ExtractedText:
    builder = TextBuilder()
    for page in pages:
        builder.add_page(page)
    return builder.build()


def _has_words(page: str) -> bool:
    return any(map(str.isalnum, page))


def _pages_by_pdfium(document: pypdfium2.PdfDocument) -> list[str]:
    pages = []
    for page in document:
        text_page = page.get_textpage()
        pages.append(str(text_page.get_text_range()).translate(_PDFIUM_HYPHENS))
        text_page.close()
        page.close()
    return pages


def _with_pictures_read(document: pypdfium2.PdfDocument, pages: Sequence[str]) -> list[str]:
    return [
        page if _has_words(page) else ocr.words_of(document, number)
        for number, page in enumerate(pages)
    ]


def _second_look(content: bytes) -> list[str]:
    """Return the pages by pypdf, or none where it fails, finds no words or takes long."""
    deadline = time.monotonic() + _SECOND_LOOK_S
    pages = []
    try:
        for page in pypdf.PdfReader(io.BytesIO(content)).pages:
            pages.append(page.extract_text())
            if time.monotonic() > deadline:
                return []
    except _PYPDF_ERRORS:
        return []
    return pages if any(map(_has_words, pages)) else []


def _pages_by_pypdf(content: bytes) -> list[str]:
    try:
        reader = pypdf.PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise DocumentRejected("encrypted", _ENCRYPTED)
        pages = [page.extract_text() for page in reader.pages]
    except _PYPDF_ERRORS as error:
        raise DocumentRejected("corrupt", _CORRUPT) from error
    if not pages:
        raise DocumentRejected("corrupt", _CORRUPT)
    return pages


_PYPDF_ERRORS = (
    pypdf.errors.PyPdfError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    NotImplementedError,
)
