import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planes.serving.generation.tokens import TokenCounter
from planes.shared.embedding import load_tokenizer

TOKENS = TokenCounter(load_tokenizer())


@pytest.mark.parametrize("unbroken", ["a" * 3000, "สวัสดี" * 500, "é" * 3000])
def test_what_the_embedder_reads_as_one_unknown_token_counts_by_its_length(unbroken: str) -> None:
    assert TOKENS.count(unbroken) == 1000
    assert TOKENS.count(f"It reads {unbroken}.") == 1003
    assert "It reads" in TOKENS.cut(f"It reads {unbroken}.", 12)


@given(st.text(), st.text("xqzé", max_size=300), st.integers(0, 20))
def test_what_is_cut_is_a_beginning_of_at_most_so_many_tokens(
    text: str, run: str, most: int
) -> None:
    cut = TOKENS.cut(f"{text}{run}", most)
    assert f"{text}{run}".startswith(cut)
    assert TOKENS.count(cut) <= most


@given(st.text(st.sampled_from("ab c.,[1]é東 \n\t\u200b\u0301xyz—"), max_size=200))
def test_beginnings_that_end_between_words_are_counted_as_if_alone(text: str) -> None:
    ends = [word.end() for word in re.finditer(r"\S+\s*", text)]
    assert TOKENS.counts(text, ends) == [TOKENS.count(text[:end]) for end in ends]
