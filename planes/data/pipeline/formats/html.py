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
    root = _parsed(content)
    for navigation in root.xpath(_NAVIGATION):
        if navigation.getparent() is not None:
            navigation.drop_tree()
    extracted = _Walk(root).extract()
    return extracted if extracted.has_words else _Walk(_parsed(content)).extract()


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

    def __init__(self, root: "lxml.html.HtmlElement") -> None:
        self._root = root
        self._builder = TextBuilder()
        self._words: list[str] = []
        self._heading: int | None = None
        self._depth_of_pre = 0
        self._depth_of_row = 0

    def extract(self) -> ExtractedText:
        title = self._root.findtext(".//title")
        if title and self._root.find(".//h1") is None:
            self._builder.add_block(" ".join(title.split()), heading_level=1)
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
        return self._builder.build()

    def _enter(self, element: "lxml.html.HtmlElement") -> None:
        tag = element.tag
        if tag in _BLOCKS and (not self._depth_of_row or tag == "tr"):
            self._flush()
        elif tag in _BLOCKS:
            self._words.append(" ")
        if not self._depth_of_row:  # a row is one block, of which a heading is only a part
            self._heading = _HEADINGS.get(tag, self._heading)
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
            self._flush()
        elif tag in _BLOCKS:
            self._words.append(" ")
        self._depth_of_pre -= tag == "pre"

    def _add(self, text: str | None) -> None:
        if text:
            self._words.append(text if self._depth_of_pre else re.sub(r"\s+", " ", text))

    def _flush(self) -> None:
        text = "".join(self._words)
        if not self._depth_of_pre:
            lines = (re.sub(r"[ \t]+", " ", line).strip() for line in text.split("\n"))
            text = re.sub(r"(?: ?\| ?)+$", "", "\n".join(lines))
        self._builder.add_block(text, heading_level=self._heading)
        self._words.clear()
        self._heading = None
