"""Slides, books, messages, JSON and bookmarks: words in reading order, headings, pages."""

from email.message import EmailMessage

import fpdf
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE

from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.formats import epub as book
from planes.data.pipeline.formats import json, message, ocr, pdf, pptx
from planes.data.pipeline.parse import ParseLimits, Parser
from planes.shared.errors import DocumentRejected
from tests.unit.data.files import epub, saved, slides

ENCRYPTED = (
    '<encryption xmlns:e="http://www.w3.org/2001/04/xmlenc#"><e:EncryptedData><e:CipherData>'
    '<e:CipherReference URI="{}"/></e:CipherData></e:EncryptedData></encryption>'
)


def headings(extracted: ExtractedText) -> list[tuple[int, str]]:
    return [(h.level, extracted.text[h.start : h.end]) for h in extracted.headings]


def pages(extracted: ExtractedText) -> list[tuple[int, str]]:
    return [(p.page, extracted.text[p.start : p.end]) for p in extracted.pages]


def test_a_slide_is_a_page_with_its_title_as_heading() -> None:
    presentation = slides(("First\x0bslide", "one\ntwo"), ("", ""), ("Third", "body"))
    shapes = presentation.slides[2].shapes
    group = shapes.add_group_shape().shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "grouped"
    table = shapes.add_table(2, 2, 0, 0, 99, 99).table
    for place, text in enumerate(["River", "km", "Rhine", ""]):
        table.cell(place // 2, place % 2).text = text
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("Sales", (1.5, 2))
    shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 9, 9, data)
    presentation.slides[2].notes_slide.notes_text_frame.text = "say this"
    extracted = pptx.extract(saved(presentation))
    assert headings(extracted) == [(1, "First slide"), (1, "Third")]
    third = [
        *("Third", "body", "grouped", "River | km\nRhine"),
        *("East; Sales: 1.5\nWest; Sales: 2", "Notes: say this"),
    ]
    assert pages(extracted) == [
        (1, "First slide\n\none\ntwo"),
        (2, ""),
        (3, "\n\n".join(third)),
    ]
    assert len(extracted.tables) == 1


def test_a_book_follows_its_spine_and_names_untitled_chapters() -> None:
    content = epub(
        {
            "b%20b.xhtml": "<head><title>x</title></head><h1>Two</h1><p>caf&#233;&nbsp;b<br/>c</p>",
            "a.xhtml": "<body><p>prose of one</p></body>",
        },
        index='<ol><li><a href="a.xhtml#start">Chapter <b>One</b></a></li></ol>',
        extra={"OEBPS/b b.xhtml": "<h1>Two</h1><p>second words</p>"},
    )
    extracted = book.extract(content)
    assert headings(extracted) == [(1, "The Book"), (2, "Chapter One"), (2, "Two")]
    assert extracted.text.split("\n\n") == [
        *("The Book", "A. Writer", "Chapter One", "prose of one", "Two", "second words")
    ]


def test_a_book_that_is_protected_is_encrypted_but_fonts_may_be() -> None:
    name = "META-INF/encryption.xml"
    fonts = epub({"a.xhtml": "words"}, extra={name: ENCRYPTED.format("OEBPS/font.otf")})
    assert "words" in book.extract(fonts).text
    with pytest.raises(DocumentRejected) as rejected:
        book.extract(epub({"a.xhtml": "words"}, extra={name: ENCRYPTED.format("OEBPS/a.xhtml")}))
    assert rejected.value.code == "encrypted"


def mail() -> EmailMessage:
    mail = EmailMessage()
    mail["Subject"] = "Käse für morgen"
    mail["From"] = "Ada <ada@example.org>"
    mail["To"] = "bob@example.org"
    mail["Date"] = "Tue, 01 Jul 2025 10:00:00 +0200"
    return mail


def test_a_message_tells_who_wrote_what_and_names_attachments() -> None:
    letter = mail()
    letter.set_content("plain words")
    letter.add_alternative("<p>rich words</p>", subtype="html")
    letter.add_attachment(b"x", maintype="application", subtype="pdf", filename="Räume.pdf")
    letter.add_attachment(mail(), filename="inner.eml")
    extracted = message.extract(letter.as_bytes())
    assert extracted.text.split("\n\n") == [
        "Käse für morgen",
        "From: Ada <ada@example.org>\nTo: bob@example.org\nDate: 2025-07-01 10:00+02:00",
        "plain words",
        "Attachments: Räume.pdf (application/pdf), inner.eml (message/rfc822)",
    ]
    assert headings(extracted) == [(1, "Käse für morgen")]


def test_a_message_in_html_alone_is_read_as_a_page() -> None:
    letter = mail()
    letter.set_content(" ")
    letter.add_alternative("<h2>Part</h2><p>rich w&ouml;rds</p>", subtype="html")
    extracted = message.extract(letter.as_bytes())
    assert extracted.text.endswith("Part\n\nrich wörds")
    assert headings(extracted)[1:] == [(3, "Part")]


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: =?utf-8?B?\xff\xff?=\nTo: <<<@,;:\nDate: no date\n\nwords",
        b"Subject: x\nContent-Type: text/plain; charset=no-such\n\nwords",
        b"Subject: x\nContent-Transfer-Encoding: base64\n\n d29yZHM=!!",
        b"From x@example.org Mon\nSubject: x\n\nwords",
        b'Subject: x\nContent-Type: multipart/mixed; boundary="b"\n\n--b\n\nwords\n',
    ],
)
def test_messages_with_faults_keep_their_words(content: bytes) -> None:
    assert "words" in message.extract(content).text


def test_a_text_without_any_header_is_no_message() -> None:
    with pytest.raises(DocumentRejected, match="no header"):
        message.extract(b"\nbody alone")


def test_json_has_a_line_a_value_with_its_path() -> None:
    content = """{"id": 1.50, "id": 10000000000000000000000, "o": {"n": "x", "t": ["p", 2]},
    "e": null, "list": [{"a": true}, {"a": "b"}], "last": "end"}"""
    assert json.extract(content.encode()).text.split("\n\n") == [
        "id: 1.50\nid: 10000000000000000000000\no.n: x\no.t: p, 2",
        *("list[0].a: true", "list[1].a: b", "last: end"),
    ]


@pytest.mark.parametrize("content", [b'{"a": 1}\n\n{"a": 2}\n', b'\xef\xbb\xbf{"a":1}\r\n{"a":2}'])
def test_json_lines_are_records(content: bytes) -> None:
    assert json.extract(content).text == "[0].a: 1\n\n[1].a: 2"


@pytest.mark.parametrize(
    ("content", "told"),
    [(b'{"a": 1', "line 1"), (b'{"a": 1}\n{"a" 2}', "line 2"), (b"{} {}", "line 1")],
)
def test_what_is_not_json_is_corrupt_with_its_line(content: bytes, told: str) -> None:
    with pytest.raises(DocumentRejected, match=told) as rejected:
        json.extract(content)
    assert rejected.value.code == "corrupt"


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(["w", "two words"]))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from("abc"), inner)
)


@settings(deadline=None, max_examples=60)
@given(VALUES)
def test_every_scalar_of_json_stands_in_its_text(value: object) -> None:
    text = json.extract(json.json.dumps(value).encode()).text
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | dict):
            waiting += each.values() if isinstance(each, dict) else each
        elif each is not None:
            assert (str(each).lower() if isinstance(each, bool) else str(each)) in text


def test_bookmarks_of_a_pdf_are_headings_where_their_titles_stand() -> None:
    file = fpdf.FPDF()
    file.set_font("helvetica", size=12)
    for level, title, line in (
        (0, "Intro", "Intro"),
        (1, "Details", "2.1  Details"),
        (0, "x", "y"),
    ):
        file.add_page()
        file.start_section(title, level=level)
        file.cell(0, 10, line, new_x="LMARGIN", new_y="NEXT")
        file.cell(0, 10, f"The words of {title} on this page")
    extracted = pdf.extract(bytes(file.output()))
    assert headings(extracted) == [(1, "Intro"), (2, "2.1 Details")]
    assert [number for number, _ in pages(extracted)] == [1, 2, 3]


@pytest.mark.skipif(ocr.engine() is None, reason="the extra `ocr` is not installed")
def test_a_scanned_page_is_read_by_ocr() -> None:
    typed = fpdf.FPDF()
    typed.set_font("helvetica", size=14)
    typed.add_page()
    typed.cell(0, 10, "Invoice number 4711 amounts to 1,250.50 EUR")
    picture = pypdfium2.PdfDocument(bytes(typed.output()))[0].render(scale=3).to_pil()
    scan = fpdf.FPDF()
    scan.add_page()
    scan.image(picture, 0, 0, 210)
    with Parser(ParseLimits()) as parser:
        extracted = parser.parse(bytes(scan.output()), pdf.MEDIA_TYPE)
    assert extracted.text == "Invoice number 4711 amounts to 1,250.50 EUR"
    assert len(extracted.pages) == 1
