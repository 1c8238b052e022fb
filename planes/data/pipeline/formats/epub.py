"""Books (EPUB 3.3, https://www.w3.org/TR/epub-33/): chapters in the order of the spine."""

import posixpath
import zipfile
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from lxml import etree  # type: ignore[import-untyped]

from planes.data.pipeline.extracted import ExtractedText, TextBuilder
from planes.data.pipeline.formats import archive, html
from planes.shared.errors import DocumentRejected

MEDIA_TYPE = "application/epub+zip"
_WHAT = "an EPUB book"
_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_CHAPTERS = {"application/xhtml+xml", "text/html"}
_DRM = "The book is protected against copying, so it cannot be read."


def extract(content: bytes) -> ExtractedText:
    """Return title, authors and chapters; a chapter without headings has its entry's in the index.

    Raises:
        DocumentRejected: `encrypted`: protected against copying; `corrupt` or `too-complex`.
    """
    builder = TextBuilder()
    with archive.opened(content, what=_WHAT) as members:
        place = _first(_parsed(members, _CONTAINER), "rootfile").get("full-path")
        package = _parsed(members, place)
        folder = posixpath.dirname(place)
        has_title = _add_title(builder, package)
        chapters = list(_chapters(package, folder))
        _refuse_protected(members, chapters)
        titles = _index(members, package, folder)
        for chapter in chapters:
            html.add(
                builder,
                members.read(chapter),
                below=1 if has_title else 0,
                otherwise_titled=titles.get(chapter, ""),
            )
    return builder.build()


def _add_title(builder: TextBuilder, package: Any) -> bool:
    """Append the book's title as the highest heading, and who wrote it."""
    title = next(_texts(package, "title"), "")
    builder.add_block(title, heading_level=1)
    builder.add_block(", ".join(_texts(package, "creator")))
    return bool(title)


def _chapters(package: Any, folder: str) -> Iterator[str]:
    """Yield the archive's names of the chapters, each once."""
    items = {item.get("id"): item for item in _all(package, "item")}
    read = set()
    for reference in _all(package, "itemref"):
        item = items[reference.get("idref")]
        name = _name(folder, item.get("href"))
        if item.get("media-type") in _CHAPTERS and name not in read:
            read.add(name)
            yield name


def _index(members: zipfile.ZipFile, package: Any, folder: str) -> dict[str, str]:
    """Return the titles of chapters by the navigation document (EPUB 3) or the NCX (EPUB 2)."""
    titles: dict[str, str] = {}
    for item in _all(package, "item"):
        is_navigation = "nav" in (item.get("properties") or "").split()
        is_ncx = item.get("media-type") == "application/x-dtbncx+xml"
        name = _name(folder, item.get("href"))
        if (is_navigation or is_ncx) and name in members.NameToInfo:
            index = _parsed(members, name)
            entries = _links(index) if is_navigation else _points(index)
            for target, title in entries:
                titles.setdefault(_name(posixpath.dirname(name), target), title)
    return titles


def _links(navigation: Any) -> Iterator[tuple[str, str]]:
    for link in _all(navigation, "a"):
        yield link.get("href") or "", " ".join("".join(link.itertext()).split())


def _points(ncx: Any) -> Iterator[tuple[str, str]]:
    for point in _all(ncx, "navPoint"):
        label, target = _first(point, "navLabel"), _first(point, "content")
        yield target.get("src") or "", " ".join("".join(label.itertext()).split())


def _refuse_protected(members: zipfile.ZipFile, chapters: list[str]) -> None:
    """Refuse a book whose chapters are encrypted; encrypted fonts do not matter."""
    if _ENCRYPTION not in members.NameToInfo:
        return
    references = _all(_parsed(members, _ENCRYPTION), "CipherReference")
    if {_name("", reference.get("URI")) for reference in references} & set(chapters):
        raise DocumentRejected("encrypted", _DRM)


def _name(folder: str, reference: str | None) -> str:
    path = unquote((reference or "").partition("#")[0])
    return posixpath.normpath(posixpath.join(folder, path)).lstrip("/")


def _parsed(members: zipfile.ZipFile, name: str) -> Any:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    return etree.fromstring(members.read(name), parser)


def _all(node: Any, name: str) -> Iterator[Any]:
    return iter(node.iter(f"{{*}}{name}"))


def _first(node: Any, name: str) -> Any:
    found = next(_all(node, name), None)
    if found is None:
        raise KeyError(name)
    return found


def _texts(package: Any, name: str) -> Iterator[str]:
    for found in package.iter(f"{{http://purl.org/dc/elements/1.1/}}{name}"):
        if words := " ".join((found.text or "").split()):
            yield words
