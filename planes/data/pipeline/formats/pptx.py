"""PowerPoint presentations (Office Open XML, ECMA-376): a page a slide, its title a heading."""

import io
from collections.abc import Iterator
from typing import Any

import pptx
from lxml import etree  # type: ignore[import-untyped]

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.data.pipeline.formats import archive, drawing

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
_WHAT = "a PowerPoint presentation"
_SLIDE = "{http://schemas.openxmlformats.org/presentationml/2006/main}"
_FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"
_TITLES = {"title", "ctrTitle"}
_REPEATED = {"dt", "ftr", "hdr", "sldNum", "sldImg"}  # date, footer, header, number, small picture


def extract(content: bytes) -> ExtractedText:
    """Return the slides in their order: title, other shapes and tables, then the notes.

    Raises:
        DocumentRejected: `encrypted`, `corrupt` or `too-complex`.
    """
    builder = TextBuilder()
    with archive.opened(content, what=_WHAT):
        slides = pptx.Presentation(io.BytesIO(content)).slides
        for number, slide in enumerate(slides, start=1):
            builder.begin_page(number)
            _add_shapes(builder, slide)
            if slide.has_notes_slide:
                notes = slide.notes_slide.element
                texts = [drawing.text(shape) for shape in _shapes(notes) if _kind(shape) == "body"]
                words = "\n".join(filter(str.strip, texts))
                builder.add_block(f"Notes: {words.strip()}" if words else "")
    return builder.build()


def _add_shapes(builder: TextBuilder, slide: Any) -> None:
    shapes = [shape for shape in _shapes(slide.element) if _kind(shape) not in _REPEATED]
    shapes.sort(key=lambda shape: _kind(shape) not in _TITLES)  # stable: the rest in drawing order
    for shape in shapes:
        if shape.tag == f"{_SLIDE}graphicFrame":
            drawing.add_frame(builder, shape, slide.part)
        else:
            is_title = _kind(shape) in _TITLES
            text = drawing.text(shape)
            builder.add_block(
                " ".join(text.split()) if is_title else text, heading_level=1 if is_title else None
            )


def _shapes(node: Any) -> Iterator[Any]:
    """Yield what holds text, groups taken apart."""
    for child in node.iterchildren(tag=etree.Element):
        if child.tag in (f"{_SLIDE}sp", f"{_SLIDE}cxnSp", f"{_SLIDE}graphicFrame"):
            yield child
        elif child.tag != _FALLBACK:
            yield from _shapes(child)


def _kind(shape: Any) -> str | None:
    """Return the kind of placeholder that a shape fills; an unnamed one is `body`."""
    placeholder = shape.find(f"{_SLIDE}nvSpPr/{_SLIDE}nvPr/{_SLIDE}ph")
    return placeholder.get("type", "body") if placeholder is not None else None
