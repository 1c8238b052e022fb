"""Files made to harm: each is read whole or rejected with a reason, and the next one is read."""

import json
import zlib
from collections.abc import Callable, Iterator

import docx
import pytest

from planes.data.pipeline.parse import ParseLimits, Parser
from planes.shared.errors import DocumentRejected
from tests.fakes_data import DOCX, PDF, docx_of, docx_with_body, pdf
from tests.unit.data.files import (
    EPUB,
    PPTX,
    XLSX,
    epub,
    saved,
    slides,
    with_members,
    workbook,
    zipped,
)

EXTERNAL = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
LAUGHS = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "lol lol lol lol lol">{}]>'.format(
    "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
)
WORD_XML = (
    '{}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    "<w:p><w:r><w:t>words {} here</w:t></w:r></w:p></w:body></w:document>"
)
SHEET_XML = (
    '{}<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
    '<row r="1"><c r="A1" t="inlineStr"><is><t>words {} here</t></is></c></row></sheetData>'
    "</worksheet>"
)
SLIDE_XML = (
    '{}<p:sld xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
    'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"><p:cSld><p:spTree><p:sp>'
    "<p:txBody><a:p><a:r><a:t>words {} here</a:t></a:r></a:p></p:txBody></p:sp></p:spTree></p:cSld>"
    "</p:sld>"
)


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser(ParseLimits()) as running:
        yield running


def outcome(parser: Parser, content: bytes, media_type: str) -> str:
    """The text, or the reason's code."""
    try:
        return parser.parse(content, media_type).text
    except DocumentRejected as rejected:
        return rejected.code if rejected.detail else "no detail"


def word(document: str) -> bytes:
    return with_members(docx_of(docx.Document()), {"word/document.xml": document})


def sheet(xml: str) -> bytes:
    return with_members(saved(workbook({"S": [["x"]]})), {"xl/worksheets/sheet1.xml": xml})


def slide(xml: str) -> bytes:
    return with_members(saved(slides(("t", "b"))), {"ppt/slides/slide1.xml": xml})


def chapter(xml: str) -> bytes:
    return epub({"a.xhtml": "x"}, extra={"OEBPS/a.xhtml": xml})


PAGE = "{}<html><body><p>words {} here</p></body></html>"


@pytest.mark.parametrize(
    ("make", "template", "media_type"),
    [
        (word, WORD_XML, DOCX),
        (sheet, SHEET_XML, XLSX),
        (slide, SLIDE_XML, PPTX),
        (chapter, PAGE, EPUB),
        (str.encode, PAGE, "text/html"),
    ],
)
def test_entities_reach_no_file_and_do_not_grow(
    parser: Parser, make: Callable[[str], bytes], template: str, media_type: str
) -> None:
    stolen = outcome(parser, make(template.format(EXTERNAL, "&e;")), media_type)
    assert "root:" not in stolen
    grown = outcome(parser, make(template.format(LAUGHS, "&a9;")), media_type)
    assert len(grown) < 5000
    assert grown.count("lol") <= 5
    assert outcome(parser, make(template.format("", "plain")), media_type).count("words plain") == 1


def test_entities_in_the_parts_that_lead_to_others_do_no_harm_either(parser: Parser) -> None:
    types = f"{EXTERNAL}<Types><Default Extension='xml' ContentType='&e;'/></Types>"
    for content, media_type in (
        (docx_of(docx.Document()), DOCX),
        (saved(slides(("t", "b"))), PPTX),
        (saved(workbook({"S": [["x"]]})), XLSX),
    ):
        changed = with_members(content, {"[Content_Types].xml": types})
        assert outcome(parser, changed, media_type) == "corrupt"
    package = f"{EXTERNAL}<package><metadata>&e;</metadata></package>"
    book = epub({"a.xhtml": "x"}, extra={"OEBPS/book.opf": package})
    assert outcome(parser, book, EPUB) in ("no-text", "corrupt")


ROW = '<row r="{}"><c r="A{}" t="inlineStr"><is><t>w</t></is></c></row>'
WIDE_SHEET = (
    '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    '<dimension ref="A1:XFD1048576"/><sheetData>{}</sheetData></worksheet>'
)


def pdf_that_unpacks_to(size_bytes: int) -> bytes:
    packer, block = zlib.compressobj(), bytes(1 << 20)
    packed = b"".join(packer.compress(block) for _ in range(size_bytes >> 20)) + packer.flush()
    head, _, rest = pdf(["x"]).partition(b"<< /Length")
    tail = rest.partition(b"endstream")[2]
    stream = b"<< /Length %d /Filter /FlateDecode >>\nstream\n%b\nendstream"
    return head + stream % (len(packed), packed) + tail


def multiparts(depth: int) -> bytes:
    opened = "".join(
        f'Content-Type: multipart/mixed; boundary="b{n}"\n\n--b{n}\n' for n in range(depth)
    )
    return f"Subject: s\n{opened}Content-Type: text/plain\n\nwords".encode()


@pytest.mark.parametrize(
    ("content", "media_type", "codes"),
    [
        pytest.param(
            with_members(docx_of(docx.Document()), {"word/media/x.bin": bytes(100 << 20)}),
            *(DOCX, {"too-complex"}),
            id="a member that packs 100 MB into nothing",
        ),
        pytest.param(
            sheet("<worksheet>" + " " * (200 << 20)), XLSX, {"too-complex"}, id="a sheet of blanks"
        ),
        pytest.param(
            epub({"a.xhtml": "x"}, extra={f"OEBPS/{n}": "" for n in range(10_001)}),
            *(EPUB, {"too-complex"}),
            id="10,000 members",
        ),
        pytest.param(
            docx_with_body("<w:p><w:r><w:t>word</w:t></w:r></w:p>" * 1_500_000),
            *(DOCX, {"too-complex"}),
            id="1.5 million paragraphs",
        ),
        pytest.param(
            docx_with_body("<w:tbl><w:tr><w:tc>" * 5000),
            DOCX,
            {"corrupt", "too-complex"},
            id="5,000 tables in each other",
        ),
        pytest.param(
            sheet(WIDE_SHEET.format(ROW.format(2_000_000_000, 2_000_000_000))),
            XLSX,
            {"too-complex"},
            id="a sheet of two billion rows",
        ),
        pytest.param(
            ("x," * 1_000_000).encode() + b"\n1",
            "text/csv",
            {"too-complex"},
            id="a million columns",
        ),
        pytest.param(
            b"[" * 1_000_000, "application/json", {"too-complex", "corrupt"}, id="deep JSON"
        ),
        pytest.param(
            b'{"a":' * 200 + b"1" + b"}" * 200,
            "application/json",
            {"too-complex"},
            id="JSON of 200 levels",
        ),
        pytest.param(
            b"<div>" * 100_000 + b"words", "text/html", {"too-complex"}, id="100,000 nested tags"
        ),
        pytest.param(multiparts(3000), "message/rfc822", {"too-complex"}, id="nested parts"),
        pytest.param(
            b"Subject: s\n"
            + b'Content-Type: multipart/mixed; boundary="b"\n\n'
            + b"--b\n\n" * 20_000,
            *("message/rfc822", {"too-complex"}),
            id="20,000 parts",
        ),
        pytest.param(
            pdf_that_unpacks_to(700 << 20), PDF, {"too-complex"}, id="a page that ends pdfium"
        ),
        pytest.param(
            pdf(["x"]).replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]"),
            PDF,
            {"corrupt", "no-text"},
            id="pages that contain themselves",
        ),
        pytest.param(
            pdf(["x"]).replace(b"/Count 1", b"/Count 9999999"),
            PDF,
            {"x", "corrupt", "too-complex"},
            id="a PDF that claims ten million pages",
        ),
    ],
)
def test_what_costs_too_much_is_rejected(
    parser: Parser, content: bytes, media_type: str, codes: set[str]
) -> None:
    assert outcome(parser, content, media_type).strip() in codes
    assert outcome(parser, b"still here", "text/plain") == "still here"


def test_a_rejection_names_the_limit(parser: Parser) -> None:
    with pytest.raises(DocumentRejected, match=r"10,000 parts"):
        parser.parse(zipped({str(n): "" for n in range(10_001)}), EPUB)
    with pytest.raises(DocumentRejected, match=r"16,384 columns"):
        parser.parse(b"x," * 20_000 + b"\n", "text/csv")
    with (
        Parser(ParseLimits(wall_s=0.3)) as hasty,
        pytest.raises(DocumentRejected, match=r"0.3 sec"),
    ):
        hasty.parse(json.dumps([{"a": n} for n in range(300_000)]).encode(), "application/json")
    with (
        Parser(ParseLimits(memory_bytes=64 << 20)) as small,
        pytest.raises(DocumentRejected, match=r"64 MB of memory"),
    ):
        small.parse(json.dumps([{"a": n} for n in range(900_000)]).encode(), "application/json")


def test_a_pdf_of_ten_thousand_pages_is_read_whole(parser: Parser) -> None:
    extracted = parser.parse(pdf([f"page {n}" for n in range(10_000)]), PDF)
    assert len(extracted.pages) == 10_000
    last = extracted.pages[-1]
    assert extracted.text[last.start : last.end] == "page 9999"


def test_archives_inside_archives_and_strange_member_names_do_no_harm(parser: Parser) -> None:
    nested = zipped({"inner.zip": zipped({"a": "b"})})
    odd = {"/etc/passwd": "x", "../../escape": "x", "word/embeddings/nested.zip": nested}
    document = docx.Document()
    document.add_paragraph("words")
    assert outcome(parser, with_members(docx_of(document), odd), DOCX) == "words"
    book = epub({"../../a.xhtml": "<p>words</p>"}, extra=odd)
    assert outcome(parser, book, EPUB).endswith(("words", "corrupt"))


@pytest.mark.parametrize("media_type", [DOCX, PPTX, XLSX, EPUB])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", zipped({"a": "b"}), b"\x00" * 99])
def test_what_is_no_such_archive_is_corrupt(
    parser: Parser, content: bytes, media_type: str
) -> None:
    assert outcome(parser, content, media_type) == "corrupt"
