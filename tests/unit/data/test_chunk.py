"""Chunks: exact offsets, nothing lost, never more tokens than the embedder reads."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from planes.data.pipeline.chunk import MAX_TOKENS, Chunker, TextChunk, embedded_text
from planes.data.pipeline.extracted import ExtractedText, HeadingSpan, TextBuilder
from planes.data.pipeline.formats import markdown
from planes.shared.embedding import load_tokenizer

WORDS = st.sampled_from(
    ["river", "naïve", "Ελλάδα", "水", "🌊", "x" * 150, "1,000.5", "#", "`code`", "\u00a0", "¿qué?"]
)
BLOCKS = st.lists(
    st.tuples(st.lists(WORDS, min_size=1, max_size=120), st.sampled_from([None, 1, 2, 3])),
    min_size=1,
    max_size=8,
)


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer()


def chunks_of(extracted: ExtractedText) -> list[TextChunk]:
    return list(Chunker(tokenizer()).chunk(extracted))


@settings(deadline=None, max_examples=60)
@given(BLOCKS)
def test_chunks_hold_the_whole_text_within_the_limit(
    blocks: list[tuple[list[str], int | None]],
) -> None:
    builder = TextBuilder()
    for words, level in blocks:
        builder.add_block(" ".join(words), heading_level=level)
    extracted = builder.build()
    chunks = chunks_of(extracted)
    kept = "".join("".join(chunk.text.split()) for chunk in chunks)
    assert kept == "".join(extracted.text.split())
    for chunk in chunks:
        assert extracted.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()
        tokens = tokenizer().encode(embedded_text(chunk.heading, chunk.text)).ids
        assert len(tokens) <= MAX_TOKENS


@pytest.mark.parametrize(
    "paragraph", ["The tide turns at noon. " * 9 + "\n", "水は海へ流れる。" * 30]
)
def test_a_section_of_any_length_is_split_piece_by_piece(
    paragraph: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("planes.data.pipeline.chunk._LONGEST_SECTION", 1_500)
    extracted = ExtractedText(paragraph * 40)
    chunks = chunks_of(extracted)
    kept = "".join("".join(each.text.split()) for each in chunks)
    assert kept == "".join(extracted.text.split())
    for each in chunks:
        assert extracted.text[each.start : each.end] == each.text
        assert len(tokenizer().encode(each.text).ids) <= MAX_TOKENS
    if "\n" in paragraph:
        assert all(each.start % len(paragraph) == 0 for each in chunks), "only behind lines"


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=3000))
def test_any_text_keeps_its_offsets(text: str) -> None:
    extracted = markdown.extract(text.encode("utf-8", "ignore"))
    for chunk in chunks_of(extracted):
        assert extracted.text[chunk.start : chunk.end] == chunk.text
        assert chunk.text.strip()


def test_a_chunk_is_on_the_page_where_it_stands() -> None:
    builder = TextBuilder()
    for page in ("first page", "", "second page", "words " * 400, ""):
        builder.add_page(page)
    extracted = builder.build()
    chunks = chunks_of(extracted)
    spans = {span.page: span for span in extracted.pages}
    for chunk in chunks:
        page = spans[chunk.page]
        assert page.start <= chunk.start < chunk.start + len(chunk.text.rstrip()) <= page.end
        assert extracted.text[chunk.start : chunk.end] == chunk.text
    assert [chunk.page for chunk in chunks] == [1, 3, *[4] * (len(chunks) - 2)]
    kept = "".join("".join(chunk.text.split()) for chunk in chunks)
    assert kept == "".join(extracted.text.split())


def test_a_format_without_pages_has_none() -> None:
    assert chunks_of(ExtractedText("some words"))[0].page is None


def test_headings_above_a_chunk_are_its_breadcrumb() -> None:
    body = "A sentence about the river and its many bridges. " * 12
    text = (
        f"# Guide\n\n{body}\n\n## Rivers\n\n{body}\n\n### Rhine\n\n{body * 3}\n\n## Lakes\n\n{body}"
    )
    chunks = chunks_of(markdown.extract(text.encode()))
    seen = {chunk.heading for chunk in chunks}
    assert {"", "Guide", "Guide > Rivers", "Guide > Rivers > Rhine"} <= seen
    lakes = next(chunk for chunk in chunks if chunk.text.startswith("## Lakes"))
    assert lakes.heading == "Guide"


def test_small_sections_share_a_chunk() -> None:
    text = "# One\n\nshort\n\n## Two\n\nshort\n\n## Three\n\nshort"
    assert len(chunks_of(markdown.extract(text.encode()))) == 1


def test_an_endless_heading_leaves_room_for_the_text() -> None:
    title = "endless " * 300
    text = f"{title}\nbody words"
    extracted = ExtractedText(text, headings=(HeadingSpan(1, 0, len(title)),))
    for chunk in chunks_of(extracted):
        assert len(tokenizer().encode(embedded_text(chunk.heading, chunk.text)).ids) <= MAX_TOKENS


@pytest.mark.parametrize("character", ["x", "水", "=", "\u0301"])
def test_a_text_without_breaks_is_split(character: str) -> None:
    chunks = chunks_of(ExtractedText(character * 20_000))
    assert max(len(chunk.text) for chunk in chunks) < 3000
