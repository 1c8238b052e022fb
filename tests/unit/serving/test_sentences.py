from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planes.serving.sentences import sentence_spans


def sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@given(st.text(alphabet="Ab1 .!?\n\"'()[]-。é", max_size=200))
def test_spans_are_ordered_stripped_and_lose_no_word(text: str) -> None:
    spans = sentence_spans(text)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    kept = "".join(text[start:end] for start, end in spans)
    assert [c for c in kept if c.isalnum()] == [c for c in text if c.isalnum()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. It pours.", ["It rains.", "It pours."]),
        ("Dr. Smith came. He left.", ["Dr. Smith came.", "He left."]),
        ("The U.S. Army won. They left.", ["The U.S. Army won.", "They left."]),
        ("See fig. 3 for it. Done.", ["See fig. 3 for it.", "Done."]),
        ('He asked "Why?" and left. She stayed.', ['He asked "Why?" and left.', "She stayed."]),
        ("A title\n\nIts text\nruns on. End.", ["A title", "Its text\nruns on.", "End."]),
        ("Buy:\n- milk\n- bread", ["Buy:", "- milk", "- bread"]),
        ("雨が降る。風も吹く。", ["雨が降る。", "風も吹く。"]),
        ("Costs 3.50 euros today.", ["Costs 3.50 euros today."]),
        (" \n\n ... ", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_a_table_without_full_stops_is_cut_at_its_lines() -> None:
    lines = [f"Row {number} has a value of about {number * 7} units" for number in range(30)]
    assert sentences("\n".join(lines)) == lines
