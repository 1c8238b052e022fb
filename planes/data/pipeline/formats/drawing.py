"""Text in shapes, tables, charts and diagrams of office documents (DrawingML, ECMA-376)."""

from collections.abc import Iterator
from typing import Any

from lxml import etree  # type: ignore[import-untyped]

from planes.data.pipeline.extracted import TextBuilder

_DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_DIAGRAM = "{http://schemas.openxmlformats.org/drawingml/2006/diagram}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}"
_MAX_POINTS = 10_000


def text(node: Any) -> str:
    """Return the paragraphs below a node, a line each."""
    return "\n".join(_paragraph(paragraph) for paragraph in node.iter(f"{_DRAWING}p"))


def add_frame(builder: TextBuilder, frame: Any, part: Any) -> None:
    """Append the table, chart or diagram that a frame shows.

    Args:
        builder: Takes it.
        frame: A `graphicFrame`.
        part: Of the package, where the frame stands.
    """
    for table in frame.iter(f"{_DRAWING}tbl"):
        properties = table.find(f"{_DRAWING}tblPr")
        has_titles = properties is not None and properties.get("firstRow") in ("1", "true")
        builder.add_table(list(_rows(table, keep_blank=has_titles)), has_titles=has_titles)
    for chart in frame.iter(f"{_CHART}chart"):
        _add_chart(builder, _parsed(part, chart.get(f"{_RELATION}id")))
    for diagram in frame.iter(f"{_DIAGRAM}relIds"):
        builder.add_block(text(_parsed(part, diagram.get(f"{_RELATION}dm"))))


def _parsed(part: Any, relation: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(part.related_part(relation).blob, parser)


def _rows(table: Any, *, keep_blank: bool) -> Iterator[str]:
    for row in table.iterchildren(f"{_DRAWING}tr"):
        cells = (" ".join(text(cell).split()) for cell in row.iterchildren(f"{_DRAWING}tc"))
        yield " | ".join(cell for cell in cells if cell or keep_blank).rstrip(" |")


def _paragraph(paragraph: Any) -> str:
    parts = []
    for node in paragraph.iter(f"{_DRAWING}t", f"{_DRAWING}br"):
        parts.append("\n" if node.tag == f"{_DRAWING}br" else node.text or "")
    return "".join(parts)


def _add_chart(builder: TextBuilder, chart: Any) -> None:
    """Append a chart's title and the values that it draws, a row a category."""
    for title in chart.iter(f"{_CHART}title"):
        builder.add_block(text(title))
    series = list(chart.iter(f"{_CHART}ser"))
    names = [" ".join(one.itertext(f"{_CHART}v")) for one in _each(series, "tx")]
    columns = [_points(one) for one in _each(series, "val")]
    categories = next((found for one in _each(series, "cat") if (found := _points(one))), {})
    lines = []
    places = sorted({place for column in columns for place in column})[:_MAX_POINTS]
    for place in places:
        values = [column.get(place, "") for column in columns]
        pairs = [f"{name}: {value}" for name, value in zip(names, values, strict=False) if value]
        lines.append("; ".join(filter(None, [categories.get(place, ""), *pairs])))
    builder.add_table(lines, has_titles=False)


def _each(series: list[Any], name: str) -> Iterator[Any]:
    for one in series:
        found = one.find(f"{_CHART}{name}")
        if found is not None:
            yield found


def _points(values: Any) -> dict[int, str]:
    found = {}
    for point in values.iter(f"{_CHART}pt"):
        number = point.get("idx", "")
        if number.isdecimal():
            found[int(number)] = " ".join(point.itertext(f"{_CHART}v")).strip()
    return found
