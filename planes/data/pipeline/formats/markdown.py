"""Markdown, kept as its author wrote it (CommonMark 0.31.2; tables as GitHub has them)."""

import re
from collections.abc import Iterator

from planes.data.pipeline.extracted import ExtractedText, HeadingSpan, TableSpan, storable
from planes.data.pipeline.formats.plain import decode

MEDIA_TYPE = "text/markdown"
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})[ \t]+(?P<title>.*?)(?:[ \t]+#+)?(?:[ \t]+\{[^{}]*\})?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_PARAGRAPH = re.compile(r" {0,3}(?![>#|<\-*+`~]|\d+[.)])(?P<title>\S.*?)[ \t]*$")
_TABLE_RULE = re.compile(r" {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)+\|?[ \t]*$")
_FRONT_MATTER = "---"
Line = tuple[int, str]  # where it begins, its characters


def extract(content: bytes) -> ExtractedText:
    """Return the source text; headings and tables outside code fences are marked.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits.
    """
    text = storable(decode(content))
    lines = _prose(text)
    return ExtractedText(text, headings=tuple(_headings(lines)), tables=tuple(_tables(lines)))


def _prose(text: str) -> list[Line]:
    """Return the lines; those of code and of the front matter are blank."""
    lines: list[Line] = []
    fence, position = "", 0
    in_front_matter = text.startswith(_FRONT_MATTER + "\n") and f"\n{_FRONT_MATTER}\n" in text
    for number, line in enumerate(text.split("\n")):
        mark = _FENCE.match(line)
        is_prose = not (fence or mark or in_front_matter)
        lines.append((position, line if is_prose else ""))
        if in_front_matter:
            in_front_matter = number == 0 or line != _FRONT_MATTER
        elif fence:
            fence = "" if mark and mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]
        position += len(line) + 1
    return lines


def _headings(lines: list[Line]) -> Iterator[HeadingSpan]:
    above: Line = (0, "")
    for place, line in lines:
        if heading := _heading(line, place, above):
            yield heading
        above = (place, line)


def _heading(line: str, position: int, previous: Line) -> HeadingSpan | None:
    if atx := _ATX.match(line):
        if not atx["title"]:
            return None
        return HeadingSpan(len(atx[1]), position + atx.start("title"), position + atx.end("title"))
    above, words = previous[0], _PARAGRAPH.match(previous[1])
    if words and (underline := _UNDERLINE.match(line)):
        level = 1 if underline[1].startswith("=") else 2
        return HeadingSpan(level, above + words.start("title"), above + words.end("title"))
    return None


def _tables(lines: list[Line]) -> Iterator[TableSpan]:
    """Yield the tables; one goes on until a line without a bar."""
    titles: Line | None = None
    end = 0
    for (above_place, above), (place, line) in zip(lines, [*lines[1:], (0, "")], strict=True):
        if titles is not None and "|" not in above:
            yield TableSpan(titles[0], titles[0] + len(titles[1]), end)
            titles = None
        if titles is None and "|" in above and _TABLE_RULE.match(line):
            titles = (above_place, above)
        end = place + len(line) if "|" in line else end
    if titles is not None:
        yield TableSpan(titles[0], titles[0] + len(titles[1]), end)
