"""HTML: all the words a reader sees, but for the site's navigation and what scripts hold.

Extractors of "main content" lose headings and short sections, which answers then cannot cite.
"""

import codecs
import re

import lxml.html  # type: ignore[import-untyped]
from lxml import etree

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.data.pipeline.formats.plain import decode, is_marked
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "text/html"
_UNSEEN = {
    *("head", "script", "style", "noscript", "template", "svg", "iframe", "object"),
    *("select", "textarea", "button", "datalist"),
}
_NAVIGATION = "//nav | //*[@role='navigation']"
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"),
    *("dialog", "div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header"),
    *("h1", "h2", "h3", "h4", "h5", "h6", "hr", "legend", "li", "main", "menu", "nav", "ol", "p"),
    *("pre", "section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
}
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_TOO_DEEP = "The file nests its elements more than 2000 deep. Save it in a simpler format."
_READ_AS = {  # https://encoding.spec.whatwg.org/#names-and-labels; readable as ASCII, so not UTF-16
    **dict.fromkeys(("ascii", "iso8859-1"), "cp1252"),
    **dict.fromkeys(("utf-16", "utf-16-le", "utf-16-be"), "utf-8"),
}
_DECLARED = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w-]{1,40})", re.IGNORECASE)


def extract(content: bytes) -> ExtractedText:
    """Return the visible text, a block a paragraph, a line a table row.

    Raises:
        DocumentRejected: `corrupt`: no encoding fits; `too-complex`: nested too deep.
    """
    builder = TextBuilder()
    add(builder, content)
    return builder.build()


def add(
    builder: TextBuilder, content: bytes, *, below: int = 0, otherwise_titled: str = ""
) -> None:
    """Append a page's visible text, see `extract`.

    Args:
        builder: Takes it.
        content: The page.
        below: Level of the heading that it stands under.
        otherwise_titled: Its title, should the page have neither headings nor a title.
    """
    root = _parsed(content)
    if root.find(".//h1") is None:
        title = " ".join((root.findtext(".//title") or "").split())
        has_headings = any(root.find(f".//{tag}") is not None for tag in _HEADINGS)
        if otherwise_titled:
            title = "" if has_headings else otherwise_titled
        builder.add_block(title, heading_level=below + 1)
    for navigation in root.xpath(_NAVIGATION):
        if navigation.getparent() is not None:
            navigation.drop_tree()
    if not _Walk(root, builder, below).added_words():
        _Walk(_parsed(content), builder, below).added_words()


def _parsed(content: bytes) -> "lxml.html.HtmlElement":
    text = _decoded(content).replace("\x00", "")
    parser = lxml.html.HTMLParser(encoding="utf-8", huge_tree=True)
    try:
        root = lxml.html.document_fromstring(text.encode("utf-8", "ignore"), parser=parser)
    except etree.ParserError:  # no element at all
        return lxml.html.Element("html")
    except etree.XMLSyntaxError as error:
        detail = "The file is not HTML that can be read."
        raise DocumentRejected("corrupt", detail) from error
    if any(entry.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for entry in parser.error_log):
        raise DocumentRejected("too-complex", _TOO_DEEP)  # the parser leaves out the rest
    return root


def _decoded(content: bytes) -> str:
    """Return the characters, by byte order mark, by what the page declares, or as plain text."""
    declared = _DECLARED.search(content[:4096])
    if declared is None or is_marked(content):
        return decode(content)
    try:
        name = codecs.lookup(declared[1].decode()).name
        return content.decode(_READ_AS.get(name, name))
    except (UnicodeError, LookupError):
        return decode(content)


class _Walk:
    """One pass over the elements; collects words until a block begins or ends."""

    def __init__(self, root: "lxml.html.HtmlElement", builder: TextBuilder, below: int) -> None:
        self._root = root
        self._builder = builder
        self._below = below
        self._has_words = False
        self._words: list[str] = []
        self._heading: int | None = None
        self._depth_of_pre = 0
        self._depth_of_row = 0
        self._depth_of_table = 0

    def added_words(self) -> bool:
        """Append everything; return whether there was anything."""
        walk = etree.iterwalk(self._root, events=("start", "end", "comment", "pi"))
        for event, element in walk:
            if event == "start":
                if element.tag in _UNSEEN:
                    walk.skip_subtree()
                else:
                    self._enter(element)
            else:
                if event == "end":
                    self._leave(element)
                self._add(element.tail)
        self._flush()
        return self._has_words

    def _enter(self, element: "lxml.html.HtmlElement") -> None:
        tag = element.tag
        if tag in _BLOCKS and (not self._depth_of_row or tag == "tr"):
            self._flush()
        elif tag in _BLOCKS:
            self._words.append(" ")
        if not self._depth_of_row:  # a row is one block, of which a heading is only a part
            self._heading = _HEADINGS.get(tag, self._heading)
        self._depth_of_table += tag == "table"
        self._depth_of_pre += tag == "pre"
        self._depth_of_row += tag == "tr"
        if tag == "br":
            self._words.append("\n")
        self._add(element.text)

    def _leave(self, element: "lxml.html.HtmlElement") -> None:
        tag = element.tag
        if tag in _UNSEEN:
            return
        self._depth_of_row -= tag == "tr"
        if tag in ("td", "th"):
            self._words.append(" | ")
        elif tag in _BLOCKS and not self._depth_of_row:
            self._flush_row(element) if tag == "tr" else self._flush()
        elif tag in _BLOCKS:
            self._words.append(" ")
        self._depth_of_pre -= tag == "pre"
        self._depth_of_table -= tag == "table"
        if tag == "table" and not self._depth_of_table:
            self._builder.end_rows()

    def _flush_row(self, row: "lxml.html.HtmlElement") -> None:
        """Append a row; one of titles alone, first in its table, names the columns."""
        is_first = row.getprevious() is None and self._depth_of_table == 1
        titles = is_first and [cell.tag for cell in row.iterchildren(tag=etree.Element)]
        if self._flush() and titles and len(titles) > 1 and set(titles) == {"th"}:
            self._builder.begin_rows()

    def _add(self, text: str | None) -> None:
        if text:
            self._words.append(text if self._depth_of_pre else re.sub(r"\s+", " ", text))

    def _flush(self) -> bool:
        """Append the words collected so far as a block; return whether there were any."""
        text = "".join(self._words)
        if not self._depth_of_pre:
            lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n"))
            text = re.sub(r"(?: ?\| ?)+$", "", "\n".join(lines))
        level = None if self._heading is None else self._below + self._heading
        self._builder.add_block(text, heading_level=level)
        self._words.clear()
        self._heading = None
        has_words = bool(text.strip())
        self._has_words |= has_words
        return has_words
