"""Files of the formats that need a library or an archive to make, each for one test."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import openpyxl
import pptx

EPUB = "application/epub+zip"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>'
    '<rootfile full-path="OEBPS/book.opf"/></rootfiles></container>'
)
_NAVIGATION = (
    '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>'
)


def saved(document: Any) -> bytes:
    """The bytes of anything that can save itself."""
    output = io.BytesIO()
    document.save(output)
    return output.getvalue()


def zipped(members: Mapping[str, str | bytes]) -> bytes:
    """A ZIP archive of these members, in their order."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return output.getvalue()


def with_members(content: bytes, changed: Mapping[str, str | bytes]) -> bytes:
    """An archive whose members of these names are replaced or added."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return zipped({**members, **changed})


def workbook(sheets: Mapping[str, Sequence[Sequence[object]]]) -> "openpyxl.Workbook":
    """An Excel workbook of these sheets."""
    book = openpyxl.Workbook()
    book.remove(book.worksheets[0])
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    return book


def slides(*texts: tuple[str, str]) -> "pptx.presentation.Presentation":
    """A presentation of slides with a title and a body."""
    presentation = pptx.Presentation()
    for title, body in texts:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = body
    return presentation


def epub(chapters: Mapping[str, str], *, index: str = "", extra: Mapping[str, str] = {}) -> bytes:
    """A book titled `The Book`; chapters are bodies by file name, the index a list of links."""
    items = "".join(
        f'<item id="c{number}" href="{name}" media-type="application/xhtml+xml"/>'
        for number, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{number}"/>' for number in reversed(range(len(chapters))))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>The Book</dc:title>'
        f"<dc:creator>A. Writer</dc:creator></metadata><manifest>{items}{_NAVIGATION}</manifest>"
        f"<spine>{spine}</spine></package>"
    )
    page = '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">{}</html>'
    bodies = {f"OEBPS/{name}": page.format(body) for name, body in chapters.items()}
    return zipped(
        {
            "mimetype": EPUB,
            "META-INF/container.xml": _CONTAINER,
            "OEBPS/book.opf": package,
            "OEBPS/nav.xhtml": page.format(f"<body><nav>{index}</nav></body>"),
            **bodies,
            **extra,
        }
    )
