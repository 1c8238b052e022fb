"""What a file is, by its name and its first bytes together."""

import io
import zipfile
import zlib

import docx
import openpyxl
import pptx
import pytest

from planes.data.pipeline.formats import MODULES
from planes.shared import media_types, signatures
from planes.shared.errors import UnsupportedMediaType
from planes.shared.media_types import (
    CSV,
    DOCX,
    EMAIL,
    EPUB,
    HTML,
    JSON,
    JSON_LINES,
    MARKDOWN,
    PDF,
    PLAIN,
    PPTX,
    SNIFFED_BYTES,
    TSV,
    XLSX,
    media_type_of,
)
from tests.unit.data.files import epub, saved, with_members, zipped

WORD, SHEETS, SLIDES = (
    saved(docx.Document()),
    saved(openpyxl.Workbook()),
    saved(pptx.Presentation()),
)
BOOK = epub({"a.xhtml": "<p>words</p>"})
COMPOUND = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600)
PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(100)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.PDF", b"%PDF-1.7\n", PDF),
        ("a.pdf", b"garbage before %PDF-1.7\n", PDF),
        ("a.docx", WORD, DOCX),
        ("a.pptx", SLIDES, PPTX),
        ("a.xlsx", SHEETS, XLSX),
        ("a.epub", BOOK, EPUB),
        ("a.docx", COMPOUND, DOCX),
        ("a.eml", b"Received: from x\r\n\r\nbody", EMAIL),
        ("a.eml", b"From x@example.org Mon\nSubject: x\n\nbody", EMAIL),
        ("a.json", b' \n{"a": 1}', JSON),
        ("a.jsonl", b'{"a": 1}\n{"a": 2}', JSON_LINES),
        ("a.csv", b"a,b\n1,2", CSV),
        ("a.tsv", b"a\tb\n1\t2", TSV),
        ("a.md", b'{"a": 1}', MARKDOWN),
        ("a.htm", b"a fragment", HTML),
        ("a.txt", "Straße".encode("cp1252"), PLAIN),
        ("a.txt", "Straße".encode("utf-16"), PLAIN),
        ("a.json", '{"a": 1}'.encode("utf-8-sig"), JSON),
        ("a.txt", b"MZ is short for Mozambique", PLAIN),
        ("no-suffix", WORD, DOCX),
    ],
)
def test_names_that_tell_the_truth_are_believed(name: str, content: bytes, expected: str) -> None:
    assert media_type_of(name, content[:SNIFFED_BYTES]) == expected


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.docx", SHEETS, "an Excel workbook"),
        ("a.xlsx", WORD, "a Word document"),
        ("a.pptx", BOOK, "an EPUB book"),
        ("a.epub", SLIDES, "a PowerPoint presentation"),
        ("a.txt", WORD, "a Word document"),
        ("a.txt", b"%PDF-1.7\n", "a PDF"),
        ("a.txt", PROGRAM, "a program"),
        ("a.txt", b"MZ\x90\x00" + bytes(100), "a program"),
        ("a.md", b"\x89PNG\r\n\x1a\n" + bytes(100), "a picture"),
        ("a.csv", zipped({"a": "b"}), "an archive"),
        ("a.txt", b"\xff\xfe" + bytes(50), "not text"),
        ("a.txt", b"\xff\xfe\x00\xdc\x00\xdc", "not text"),
        ("a.txt", COMPOUND, "not text"),
        ("a.epub", COMPOUND, "not text"),
        ("a.pdf", b"hello", "plain text"),
        ("a.docx", b"hello", "plain text"),
        ("a.txt", b"{\\rtf1\\ansi words}", "rich text"),
        ("a.json", b"<!DOCTYPE html><p>", "a web page"),
        ("a.json", b"a: 1", "not JSON"),
        ("a.eml", b"hello there\n", "not an e-mail message"),
        ("a.exe", PROGRAM, "Files named *.exe"),
        ("no-suffix", b"hello", "(no suffix)"),
    ],
)
def test_names_that_lie_are_refused_with_what_the_file_is(
    name: str, content: bytes, told: str
) -> None:
    with pytest.raises(UnsupportedMediaType) as refused:
        media_type_of(name, content[:SNIFFED_BYTES])
    assert told in str(refused.value.detail)


def test_a_declared_type_counts_where_the_name_says_nothing() -> None:
    assert media_type_of("page.php", b"<p>words", declared="text/html; charset=utf-8") == HTML
    assert media_type_of("a.csv", b"a,b", declared="text/html") == CSV
    with pytest.raises(UnsupportedMediaType):
        media_type_of("page.php", PROGRAM, declared="text/html")
    with pytest.raises(UnsupportedMediaType):
        media_type_of("script.py", b"print()", declared="text/x-python")


def test_office_documents_are_told_by_their_members_in_any_order() -> None:
    with_data_first = zipped({"docProps/app.xml": "x", **_members(SHEETS)})
    assert media_type_of("unnamed", with_data_first) == XLSX
    with_picture_first = with_members(zipped({"picture": bytes(70_000)}), _members(WORD))
    assert media_type_of("a.docx", with_picture_first[:SNIFFED_BYTES]) == DOCX


def test_only_the_member_that_tells_the_type_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    many = zipped({f"{n}": bytes(200_000) for n in range(200)})[:SNIFFED_BYTES]
    monkeypatch.delattr(zlib, "decompressobj")
    assert signatures.zipped_type(many) is None


def test_every_type_that_is_taken_can_be_parsed() -> None:
    names = [name for name in vars(media_types) if name.isupper() and not name.startswith("_")]
    values = {getattr(media_types, name) for name in names if name != "SNIFFED_BYTES"}
    assert {value for value in values if isinstance(value, str)} == set(MODULES)


def _members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}
