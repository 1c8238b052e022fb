"""Sheets and tables: every row is understood alone, and every chunk below a table's titles."""

import datetime
from functools import cache

import docx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planes.data.pipeline.chunk import MAX_TOKENS, Chunker, TextChunk, embedded_text
from planes.data.pipeline.extracted import ExtractedText
from planes.data.pipeline.formats import delimited, html, markdown, xlsx
from planes.data.pipeline.formats import docx as word
from planes.shared.embedding import load_tokenizer
from planes.shared.errors import DocumentRejected
from tests.fakes_data import docx_of
from tests.unit.data.files import saved, workbook

NOON = datetime.datetime.fromisoformat("2020-01-02T12:00")
CELLS = st.sampled_from(
    ["", "river", "1230", "2024-01-02", "naïve; so", 'quoted "word"', "two\nlines", "水", "x" * 900]
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=6), min_size=1, max_size=12)


@cache
def chunker() -> Chunker:
    return Chunker(load_tokenizer())


def chunks_of(extracted: ExtractedText) -> list[TextChunk]:
    chunks = list(chunker().chunk(extracted))
    for chunk in chunks:
        assert extracted.text[chunk.start : chunk.end] == chunk.text
        tokens = load_tokenizer().encode(embedded_text(chunk.heading, chunk.text)).ids
        assert len(tokens) <= MAX_TOKENS
    kept = "".join("".join(chunk.text.split()) for chunk in chunks)
    assert kept == "".join(extracted.text.split())
    return chunks


def headings(extracted: ExtractedText) -> list[tuple[int, str]]:
    return [(h.level, extracted.text[h.start : h.end]) for h in extracted.headings]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_line_of_csv_names_its_columns(delimiter: str, encoding: str) -> None:
    rows = [
        ["Name", "City", "Note"],
        ["Ada", f'"London{delimiter} Süd"', '"two\nlines"'],
        ["Bob", "Paris", ""],
    ]
    content = "\r\n".join(delimiter.join(row) for row in rows).encode(encoding)
    assert delimited.extract(content).text == (
        f"Name | City | Note\nName: Ada; City: London{delimiter} Süd; Note: two lines\n"
        "Name: Bob; City: Paris"
    ).replace("\t ", " ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"1,2,3\n4,5,6\n", "1 | 2 | 3\n4 | 5 | 6"),
        (b"one\ntwo\n", "one\ntwo"),
        (b"a,b\n1,2\n\n3,4\n", "a | b\na: 1; b: 2\na: 3; b: 4"),
        (b"Country,2023,2024\nFrance,1,2\n", "Country: France; 2023: 1; 2024: 2"),
        (b"a,b\n1,2,3\n", "1 | 2 | 3"),
        (b'a,b\n"never closed,2\n', "never closed,2"),
    ],
)
def test_csv_without_titles_or_with_faults_keeps_its_words(content: bytes, expected: str) -> None:
    assert expected in delimited.extract(content).text


def test_a_record_that_is_long_repeats_what_it_is_about() -> None:
    titles = ["Name", *(f"Field {n}" for n in range(40))]
    row = ["Ada", *(f"value of forty characters number {n}" for n in range(40))]
    text = delimited.extract("\n".join([",".join(titles), ",".join(row)]).encode()).text
    lines = text.split("\n")
    assert len(lines) > 3
    assert all(line.startswith("Name: Ada; Field") for line in lines[1:])


def test_a_sheet_shows_values_as_a_reader_sees_them() -> None:
    book = workbook(
        {
            "Sales": [
                ["Sales of the year"],
                [],
                ["Region", "City", "Growth", "Since", "Total"],
                ["North", "Lyon", 0.25, datetime.date(2020, 1, 2), 0.1 + 0.2],
                [None, "Paris", True, NOON, 1_000_000],
                [],
                ["a note below", None],
            ],
            "Secret": [["hidden words"]],
        }
    )
    book["Sales"]["C4"].number_format = "0.0%"
    book["Sales"].merge_cells("A4:A5")
    book["Secret"].sheet_state = "hidden"
    extracted = xlsx.extract(saved(book))
    assert extracted.text.split("\n\n")[:3] == [
        "Sales",
        "Sales of the year",
        "Region | City | Growth | Since | Total\n"
        "Region: North; City: Lyon; Growth: 25%; Since: 2020-01-02; Total: 0.3\n"
        "Region: North; City: Paris; Growth: true; Since: 2020-01-02 12:00:00; Total: 1000000",
    ]
    assert headings(extracted)[:2] == [(1, "Sales"), (2, "Sales of the year")]
    assert "hidden" not in extracted.text


def test_two_tables_in_a_sheet_have_titles_of_their_own() -> None:
    rows = [["a", "b"], [1, 2], [], ["c", "d"], [3, 4], [], [5, 6]]
    text = xlsx.extract(saved(workbook({"S": rows}))).text
    assert text.split("\n\n") == ["S", "a | b\na: 1; b: 2", "c | d\nc: 3; d: 4", "c: 5; d: 6"]


def test_every_chunk_of_a_long_sheet_says_where_it_is_and_what_its_values_are() -> None:
    rows = [["City", "Population"], *([f"Town {n}", n] for n in range(400))]
    chunks = chunks_of(xlsx.extract(saved(workbook({"Towns": rows}))))
    assert len(chunks) > 10
    assert chunks[0].text.startswith("Towns\n\nCity | Population\nCity: Town 0")
    assert {chunk.heading for chunk in chunks[1:]} == {"Towns"}
    assert all("Population: " in chunk.text for chunk in chunks)


def test_more_columns_than_excel_has_are_too_complex() -> None:
    with pytest.raises(DocumentRejected, match="16,384 columns"):
        delimited.extract(b"x," * 20_000)


HTML_ROW = "<tr><td>River {0}</td><td>{0}</td><td>some words about it</td></tr>"
MARKDOWN_ROW = "| River {0} | {0} | some words about it |\n"


def long_html() -> ExtractedText:
    head = "<thead><tr><th>River</th><th>km</th><th>Note</th></tr></thead>"
    body = "".join(HTML_ROW.format(n) for n in range(100))
    after = f"<p>{'after the table ' * 100}</p>"
    return html.extract(f"<h1>Rivers</h1><table>{head}{body}</table>{after}".encode())


def long_markdown() -> ExtractedText:
    body = "".join(MARKDOWN_ROW.format(n) for n in range(100))
    head = "# Rivers\n\n| River | km | Note |\n|---|--:|:-:|\n"
    return markdown.extract(f"{head}{body}\n{'after the table ' * 100}".encode())


def long_word() -> ExtractedText:
    document = docx.Document()
    document.add_heading("Rivers", level=1)
    table = document.add_table(rows=101, cols=3)
    cells = iter(table._cells)
    for row in [("River", "km", "Note"), *((f"River {n}", str(n), "words") for n in range(100))]:
        for text in row:
            next(cells).text = text
    document.add_paragraph("after the table " * 100)
    return word.extract(docx_of(document))


@pytest.mark.parametrize("make", [long_html, long_markdown, long_word])
def test_chunks_inside_a_table_repeat_its_titles(make: "type[ExtractedText]") -> None:
    chunks = chunks_of(make())
    inside = [chunk for chunk in chunks[1:] if "River 5" in chunk.text]
    assert inside
    assert all(chunk.heading == "Rivers > River | km | Note" for chunk in inside)
    assert chunks[-1].heading == "Rivers"


def test_code_with_pipes_is_no_table() -> None:
    text = "```\n| a | b |\n|---|---|\n| 1 | 2 |\n```\n"
    assert markdown.extract(text.encode()).tables == ()


@settings(deadline=None, max_examples=40)
@given(ROWS)
def test_no_cell_of_any_table_is_lost(rows: list[list[str]]) -> None:
    words = {word for row in rows[1:] for cell in row for word in cell.split()}
    quoted = "\n".join(
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows
    )
    for extracted in (
        delimited.extract(quoted.encode()),
        xlsx.extract(saved(workbook({"Sheet": rows}))),
    ):
        assert {word for word in words if word not in extracted.text} == set()
        chunks_of(extracted)
