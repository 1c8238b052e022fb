"""What becomes of whole files, through the real parser process."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict

import docx
import orjson
import pytest

from planes.data.pipeline.frames import read_frame, write_frame
from planes.data.pipeline.parse import ParseLimits, Parser
from planes.shared.errors import DocumentRejected
from tests.fakes_data import DOCX, PDF, docx_of, docx_with_body, pdf

PARAGRAPH = "<w:p><w:r><w:t>word</w:t></w:r></w:p>"


@pytest.fixture(scope="module")
def parser() -> Iterator[Parser]:
    with Parser(ParseLimits()) as running:
        yield running


def reason(parser: Parser, content: bytes, media_type: str) -> str:
    with pytest.raises(DocumentRejected) as rejected:
        parser.parse(content, media_type)
    assert rejected.value.detail
    return rejected.value.code


def test_pdf_pages_are_spans_of_the_text(parser: Parser) -> None:
    extracted = parser.parse(pdf(["first page", "", "third page"]), PDF)
    texts = {span.page: extracted.text[span.start : span.end] for span in extracted.pages}
    assert texts == {1: "first page", 2: "", 3: "third page"}


def test_encrypted_files_are_named_as_such(parser: Parser) -> None:
    assert reason(parser, pdf(["secret"], password="x"), PDF) == "encrypted"
    assert reason(parser, bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), DOCX) == "encrypted"


@pytest.mark.parametrize("media_type", [PDF, DOCX])
@pytest.mark.parametrize("content", [b"%PDF-1.7 nothing", b"PK\x03\x04 nothing", b"\x00" * 100])
def test_damaged_files_are_corrupt(parser: Parser, content: bytes, media_type: str) -> None:
    assert reason(parser, content, media_type) == "corrupt"


def test_truncated_files_are_read_or_rejected(parser: Parser) -> None:
    document = docx.Document()
    document.add_paragraph("some words")
    for content, media_type in ((pdf(["some words"]), PDF), (docx_of(document), DOCX)):
        for end in range(0, len(content), len(content) // 12):
            with suppress(DocumentRejected):
                assert parser.parse(content[:end], media_type).has_words


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (pdf(["", ""]), PDF),
        (docx_of(docx.Document()), DOCX),
        (b" \n\t ", "text/plain"),
        (b"--- \n***", "text/markdown"),
        (b"<html><script>var words</script></html>", "text/html"),
        (b"", "text/html"),
    ],
)
def test_files_without_words_have_no_text(parser: Parser, content: bytes, media_type: str) -> None:
    assert reason(parser, content, media_type) == "no-text"


def test_a_file_that_unpacks_to_much_is_too_complex_and_the_next_one_is_read(
    parser: Parser,
) -> None:
    bomb = docx_with_body(PARAGRAPH * 2_500_000)
    assert len(bomb) < 1 << 20
    assert reason(parser, bomb, DOCX) == "too-complex"
    assert parser.parse(b"still here", "text/plain").text == "still here"


def test_a_file_that_takes_too_long_is_too_complex() -> None:
    with Parser(ParseLimits(wall_s=0.3)) as hasty:
        assert reason(hasty, docx_with_body(PARAGRAPH * 400_000), DOCX) == "too-complex"
        assert hasty.parse(b"still here", "text/plain").has_words


def test_a_text_beyond_the_limit_is_too_complex_before_it_leaves_the_process() -> None:
    request = {"media_type": "text/plain", **asdict(ParseLimits(text_chars=10))}
    command = [sys.executable, "-m", "planes.data.pipeline.parse_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        write_frame(server.stdin, orjson.dumps(request))
        write_frame(server.stdin, b"more than ten characters")
        reply = read_frame(server.stdout)
        server.stdin.close()
    assert reply is not None
    assert orjson.loads(reply)["rejected"][0] == "too-complex"
    with Parser(ParseLimits(text_chars=10)) as strict:
        assert reason(strict, b"more than ten characters", "text/plain") == "too-complex"


def test_the_longest_text_in_wide_characters_is_read_whole(parser: Parser) -> None:
    text = "机器学习是人工智能的一个分支。\n" * 900_000
    assert parser.parse(text.encode(), "text/plain").text == text


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"one\x00two\r\nthree\rfour", "text/plain"),
        (b"<p>one&#0;two&#xD800;</p><p>three\x00</p>", "text/html"),
    ],
)
def test_text_holds_nothing_that_the_database_refuses(
    parser: Parser, content: bytes, media_type: str
) -> None:
    text = parser.parse(content, media_type).text
    assert not set(text) & {"\x00", "\r"}
    text.encode()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_plain_text_is_read_in_its_encoding(parser: Parser, encoding: str) -> None:
    text = "Der Fluß fließt über die Ebene, und die Brücke führt nach Köln. " * 5
    assert parser.parse(text.encode(encoding), "text/plain").text == text
