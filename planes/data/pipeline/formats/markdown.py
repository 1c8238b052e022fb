"""Markdown, kept as its author wrote it (CommonMark headings, https://spec.commonmark.org/0.31.2/)."""

import re

from planes.data.pipeline.extracted import ExtractedText, HeadingSpan, storable
from planes.data.pipeline.formats.plain import decode

MEDIA_TYPE = "text/markdown"
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(?P<title>.*?)(?:[ \t]+#+)?(?:[ \t]+\{[^{}]*\})?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_PARAGRAPH = re.compile(r" {0,3}(?![>#|<\-*+`~]|\d+[.)])(?P<title>\S.*?)[ \t]*$")


def extract(content: bytes) -> ExtractedText:
    """Return the source text; the headings outside code fences are marked.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits.
    """
    text = storable(decode(content))
    return ExtractedText(text, headings=tuple(_headings(text)))


def _headings(text: str) -> list[HeadingSpan]:
    found: list[HeadingSpan] = []
    fence, position, previous = "", 0, (0, "")
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        elif heading := _heading(line, position, previous):
            found.append(heading)
        previous = (position, "" if mark or fence else line)
        position += len(line) + 1
    return found


def _heading(line: str, position: int, previous: tuple[int, str]) -> HeadingSpan | None:
    if atx := _ATX.match(line):
        if not atx["title"]:
            return None
        return HeadingSpan(len(atx[1]), position + atx.start("title"), position + atx.end("title"))
    above, words = previous[0], _PARAGRAPH.match(previous[1])
    if words and (underline := _UNDERLINE.match(line)):
        level = 1 if underline[1].startswith("=") else 2
        return HeadingSpan(level, above + words.start("title"), above + words.end("title"))
    return None
