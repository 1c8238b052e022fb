"""Word documents (Office Open XML, ECMA-376): everything that a reader of the pages sees."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.exceptions import OpcError
from docx.oxml import parse_xml
from lxml import etree  # type: ignore[import-untyped]

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_COMPOUND_FILE = bytes.fromhex("d0cf11e0a1b11ae1")  # how an encrypted document is wrapped
_UNPACKED_BYTES = 256 << 20
_OUT_OF_BOUNDS = {etree.ErrorTypes.ERR_NO_MEMORY, etree.ErrorTypes.ERR_RESOURCE_LIMIT}
_BLANKS = {
    f"{_WORD}tab": "\t",
    f"{_WORD}br": "\n",
    f"{_WORD}cr": "\n",
    f"{_WORD}noBreakHyphen": "-",
}
_HIDDEN = {f"{_WORD}del", f"{_WORD}moveFrom", f"{_COMPATIBILITY}Fallback", f"{_WORD}instrText"}
_NOTES = (RELATIONSHIP_TYPE.FOOTNOTES, RELATIONSHIP_TYPE.ENDNOTES, RELATIONSHIP_TYPE.COMMENTS)


def extract(content: bytes) -> ExtractedText:
    """Return headers, body in its order, notes and comments, then footers.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `too-complex`.
    """
    document = _opened(content)
    levels = _heading_levels(document)
    builder = TextBuilder()
    for root in _stories(document):
        for text, level in _blocks(root, levels):
            builder.add_block(text, heading_level=level)
    return builder.build()


def _stories(document: Any) -> Iterator[Any]:
    """Yield the roots of the parts that hold text; headers and footers that repeat, once."""
    parts: dict[str, dict[bytes, None]] = {}
    for relation in document.part.rels.values():
        if not relation.is_external:
            parts.setdefault(relation.reltype, {})[relation.target_part.blob] = None
    yield from map(parse_xml, parts.get(RELATIONSHIP_TYPE.HEADER, ()))
    yield document.element.body
    for kind in (*_NOTES, RELATIONSHIP_TYPE.FOOTER):
        yield from map(parse_xml, parts.get(kind, ()))


def _opened(content: bytes) -> Any:
    if content.startswith(_COMPOUND_FILE):
        detail = "The document is protected by a password. Remove it and upload the file again."
        raise DocumentRejected("encrypted", detail)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _UNPACKED_BYTES:
            detail = "The document unpacks to more than 256 MB. Split it into smaller ones."
            raise DocumentRejected("too-complex", detail)
        return docx.Document(io.BytesIO(content))
    except (zipfile.BadZipFile, etree.XMLSyntaxError, OpcError, KeyError, ValueError) as error:
        if getattr(error, "code", None) in _OUT_OF_BOUNDS:
            raise MemoryError(str(error)) from error
        detail = "The file is damaged or is not a Word document, so it cannot be read."
        raise DocumentRejected("corrupt", detail) from error


def _heading_levels(document: Any) -> dict[str, int]:
    """Map style ids to levels: Title is 1, Heading N is N, and so are styles based on them."""
    levels: dict[str, int] = {}
    if not any(rel.reltype == RELATIONSHIP_TYPE.STYLES for rel in document.part.rels.values()):
        return levels  # python-docx would read its own from a file
    for style in document.styles:
        ancestor = style
        while ancestor is not None:
            name = (ancestor.name or "").lower()
            if name == "title" or name.startswith("heading "):
                number = name.removeprefix("heading ")
                levels[style.style_id] = int(number) if number.isdigit() else 1
                break
            ancestor = getattr(ancestor, "base_style", None)
    return levels


def _blocks(root: Any, levels: dict[str, int]) -> Iterator[tuple[str, int | None]]:
    """Yield paragraphs and table rows in document order, those of text boxes after their anchor."""
    for child in root.iterchildren(tag=etree.Element):
        if child.tag == f"{_WORD}p":
            style = child.find(f"{_WORD}pPr/{_WORD}pStyle")
            yield _text(child), levels.get(style.get(f"{_WORD}val")) if style is not None else None
            for box in _boxes(child):
                yield from _blocks(box, levels)
        elif child.tag == f"{_WORD}tbl":
            yield "\n".join(_rows(child)), None
        elif child.tag not in _HIDDEN:
            yield from _blocks(child, levels)


def _rows(table: Any) -> Iterator[str]:
    for row in _own(table, "tr"):
        cells = (_joined(_blocks(cell, {})) for cell in _own(row, "tc"))
        yield " | ".join(cell for cell in cells if cell)


def _own(node: Any, name: str) -> Iterator[Any]:
    """Yield descendants that belong to `node` itself, not to a table inside it."""
    for found in node.iter(f"{_WORD}{name}"):
        if next(found.iterancestors(node.tag)) is node:
            yield found


def _joined(blocks: Iterator[tuple[str, int | None]]) -> str:
    return " ".join(" ".join(text.split()) for text, _ in blocks if text.strip())


def _text(node: Any) -> str:
    """Return the visible characters of a paragraph, without those of text boxes in it."""
    parts: list[str] = []
    for child in node.iterchildren(tag=etree.Element):
        if child.tag in (f"{_WORD}t", _MATH_TEXT):
            parts.append(child.text or "")
        elif child.tag in _BLANKS:
            parts.append(_BLANKS[child.tag])
        elif child.tag not in _HIDDEN and child.tag != f"{_WORD}txbxContent":
            parts.append(_text(child))
    return "".join(parts)


def _boxes(paragraph: Any) -> Iterator[Any]:
    for box in paragraph.iter(f"{_WORD}txbxContent"):
        ancestors = {ancestor.tag for ancestor in box.iterancestors()}
        if f"{_COMPATIBILITY}Fallback" not in ancestors:
            yield box
