"""What each format yields: words in reading order, and which of them are headings."""

import docx
import pytest

from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.formats import docx as word
from planes.data.pipeline.formats import html, markdown, plain
from planes.shared.errors import DocumentRejected
from tests.fakes_data import docx_of, docx_with_body


def headings(extracted: ExtractedText) -> list[tuple[int, str]]:
    return [(h.level, extracted.text[h.start : h.end]) for h in extracted.headings]


def test_word_keeps_paragraphs_and_tables_in_document_order() -> None:
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "page header"
    document.add_heading("Report", level=0)
    document.add_heading("Numbers", level=2)
    document.add_paragraph("before the table")
    table = document.add_table(rows=2, cols=2)
    for cell, text in zip(table._cells, ["a", "b", "c", "d"], strict=True):
        cell.text = text
    document.add_paragraph("after the table")
    extracted = word.extract(docx_of(document))
    assert extracted.text.split("\n\n") == [
        "page header",
        "Report",
        "Numbers",
        "before the table",
        "a | b\nc | d",
        "after the table",
    ]
    assert headings(extracted) == [(1, "Report"), (2, "Numbers")]


def test_word_keeps_links_insertions_and_text_boxes_but_no_deletions() -> None:
    text = "<w:r><w:t>{}</w:t></w:r>"
    box = f"<w:txbxContent><w:p>{text.format('boxed')}</w:p></w:txbxContent>"
    body = (
        f"<w:p><w:hyperlink>{text.format('link ')}</w:hyperlink>"
        f"<w:ins>{text.format('new ')}</w:ins>"
        f"<w:del><w:r><w:delText>old</w:delText></w:r></w:del>{text.format('end')}"
        f"<w:r><w:pict>{box}</w:pict></w:r></w:p>"
    )
    assert word.extract(docx_with_body(body)).text == "link new end\n\nboxed"


def test_html_keeps_what_a_reader_sees() -> None:
    page = b"""<html><head><title>Site</title><style>p {}</style></head><body>
    <nav>Home | About</nav><h1>Rivers &amp; lakes</h1><p>The <b>Rhine</b>
    is long.<br>Very long.</p><script>alert(1)</script>
    <table><tr><th>River</th><th>km</th></tr><tr><td>Rhine</td><td><p>1230</p></td></tr></table>
    <pre>a  b
  c</pre><!-- note --><div>tail<h2>End</h2>text</div></body></html>"""
    extracted = html.extract(page)
    assert extracted.text.split("\n\n") == [
        "Rivers & lakes",
        "The Rhine is long.\nVery long.",
        "River | km",
        "Rhine | 1230",
        "a  b\n  c",
        "tail",
        "End",
        "text",
    ]
    assert headings(extracted) == [(1, "Rivers & lakes"), (2, "End")]


def test_html_without_a_first_heading_has_its_title() -> None:
    extracted = html.extract(b"<title>Site</title><p>words</p>")
    assert headings(extracted) == [(1, "Site")]


def test_html_that_is_all_navigation_is_kept() -> None:
    assert html.extract(b"<nav><a href='/'>Home</a></nav>").text == "Home"


@pytest.mark.parametrize("declared", ['charset="windows-1252"', "charset=no-such-encoding"])
def test_html_is_read_in_the_declared_encoding_if_there_is_one(declared: str) -> None:
    page = f"<meta {declared}><p>Straße, Größe und Ärger in der großen Stadt</p>"
    assert "Straße" in html.extract(page.encode("cp1252")).text


def test_html_nested_deep_is_whole_and_deeper_still_is_rejected() -> None:
    page = "<p>BEFORE</p>{}in{}<p>AFTER</p>"
    deep = page.format("<div>" * 300, "</div>" * 300)
    assert html.extract(deep.encode()).text.split() == ["BEFORE", "in", "AFTER"]
    with pytest.raises(DocumentRejected) as rejected:
        html.extract(page.format("<div>" * 3000, "</div>" * 3000).encode())
    assert rejected.value.code == "too-complex"


@pytest.mark.parametrize("label", ["iso-8859-1", "latin-1", "us-ascii"])
def test_html_labels_of_latin_1_mean_windows_1252(label: str) -> None:
    page = f"<meta charset={label}><p>“Straße” cost 5 €</p>"
    assert html.extract(page.encode("cp1252")).text == "“Straße” cost 5 €"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_wins_over_what_html_declares(encoding: str) -> None:
    page = "<meta charset=windows-1252><p>Straße</p>"
    assert html.extract(page.encode(encoding)).text == "Straße"


def test_a_heading_inside_a_table_row_does_not_make_the_row_one() -> None:
    row = b"<table><tr><td><h2>River</h2></td><td>a long text</td></tr></table><p>after</p>"
    extracted = html.extract(row)
    assert extracted.text == "River | a long text\n\nafter"
    assert headings(extracted) == []


def test_a_broken_byte_in_utf8_changes_no_other_character() -> None:
    text = "Der Fluß fließt über die Ebene, und die Brücke führt nach Köln. " * 5
    broken = text.encode().replace("Köln".encode(), b"K\xc3ln", 1)
    assert plain.extract(broken).text == text.replace("Köln", "K\ufffdln", 1)


def test_a_few_accents_in_another_encoding_are_read_in_it() -> None:
    text = "A plain English text, in which the café is named once in a while. " * 5
    assert plain.extract(text.encode("cp1252")).text == text


def test_markdown_marks_headings_outside_code() -> None:
    text = (
        "# Guide { #guide }\n\nSetext\n======\n\n```sh\n# no heading\n```\n\n"
        "### Deep ###\n- item\n---\ntext\n"
    )
    extracted = markdown.extract(text.encode())
    assert extracted.text == text
    assert headings(extracted) == [(1, "Guide"), (1, "Setext"), (3, "Deep")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Le garçon a mangé une crêpe à la crème brûlée près de la forêt.", "cp1252"),
        ("It\u2019s a \u201cquoted\u201d text \u2013 with dashes and more words", "cp1252"),
        ("El niño pequeño comió una piña en la montaña ayer por la mañana.", "cp1252"),
        ("Zażółć gęślą jaźń, a potem wróć do domu i odpocznij przez chwilę.", "cp1250"),
        ("Árvíztűrő tükörfúrógép, mondta a férfi és elment haza.", "cp1250"),
        ("Съешь ещё этих мягких французских булок, да выпей чаю.", "cp1251"),
    ],
)
def test_text_of_old_windows_systems_keeps_its_letters(text: str, encoding: str) -> None:
    assert plain.extract(text.encode(encoding)).text == text
