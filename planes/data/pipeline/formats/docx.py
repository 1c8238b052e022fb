"""Word documents (Office Open XML, ECMA-376): everything that a reader of the pages sees."""

import io
from collections.abc import Iterator
from typing import Any

import docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import parse_xml
from lxml import etree  # type: ignore[import-untyped]

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.data.pipeline.formats import archive

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
_WHAT = "a Word document"
_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_MATH_TEXT = "{http://schemas.openxmlformats.org/officeDocument/2006/math}t"
_COMPATIBILITY = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
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
    builder = TextBuilder()
    with archive.opened(content, what=_WHAT):
        document = docx.Document(io.BytesIO(content))
        levels = _heading_levels(document)
        for root in _stories(document):
            _add(builder, root, levels)
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


def _add(builder: TextBuilder, root: Any, levels: dict[str, int]) -> None:
    """Append paragraphs and tables in document order, those of text boxes after their anchor."""
    for node in _nodes(root):
        if node.tag == f"{_WORD}tbl":
            _add_table(builder, node)
        else:
            style = node.find(f"{_WORD}pPr/{_WORD}pStyle")
            level = levels.get(style.get(f"{_WORD}val")) if style is not None else None
            builder.add_block(_text(node), heading_level=level)


def _nodes(root: Any) -> Iterator[Any]:
    """Yield the paragraphs and tables that a reader sees, none inside of another."""
    for child in root.iterchildren(tag=etree.Element):
        if child.tag == f"{_WORD}p":
            yield child
            for box in _boxes(child):
                yield from _nodes(box)
        elif child.tag == f"{_WORD}tbl":
            yield child
        elif child.tag not in _HIDDEN:
            yield from _nodes(child)


def _add_table(builder: TextBuilder, table: Any) -> None:
    rows = [[_joined(cell) for cell in _own(row, "tc")] for row in _own(table, "tr")]
    has_titles = _names_columns(table) and len(rows[0]) > 1 and all(rows[0])
    lines = (" | ".join(cell for cell in row if cell or has_titles) for row in rows)
    builder.add_table([line.rstrip(" |") for line in lines], has_titles=has_titles)


def _names_columns(table: Any) -> bool:
    """Whether the first row repeats on every page, or is drawn unlike the others."""
    first = next(_own(table, "tr"), None)
    if first is None:
        return False
    look = table.find(f"{_WORD}tblPr/{_WORD}tblLook")
    drawn = look is not None and (
        look.get(f"{_WORD}firstRow") == "1" or int(look.get(f"{_WORD}val") or "0", 16) & 0x20
    )
    return bool(drawn) or first.find(f"{_WORD}trPr/{_WORD}tblHeader") is not None


def _own(node: Any, name: str) -> Iterator[Any]:
    """Yield descendants that belong to `node` itself, not to a table inside it."""
    for found in node.iter(f"{_WORD}{name}"):
        if next(found.iterancestors(node.tag)) is node:
            yield found


def _joined(cell: Any) -> str:
    """Return a cell's words in one line, those of tables inside it too."""
    lines = []
    for node in _nodes(cell):
        if node.tag == f"{_WORD}tbl":
            rows = ((_joined(inner) for inner in _own(row, "tc")) for row in _own(node, "tr"))
            lines += [" | ".join(filter(None, row)) for row in rows]
        else:
            lines.append(_text(node))
    return " ".join(" ".join(line.split()) for line in lines if line.strip())


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
