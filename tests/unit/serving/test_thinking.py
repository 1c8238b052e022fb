from hypothesis import given
from hypothesis import strategies as st

from planes.serving.generation.thinking import ThinkingFilter


def shown(pieces: list[str]) -> str:
    thinking = ThinkingFilter()
    return "".join([*(thinking.feed(piece) for piece in pieces), thinking.finish()])


@given(st.lists(st.integers(1, 6), max_size=40))
def test_reasoning_is_hidden_wherever_the_pieces_are_cut(lengths: list[int]) -> None:
    text, pieces = "<think>a <b> </thin c</think>\n\nThe answer is 1 < 2.", []
    for length in lengths:
        pieces.append(text[:length])
        text = text[length:]
    assert shown([*pieces, text]) == "The answer is 1 < 2."


def test_a_block_that_never_ends_shows_nothing() -> None:
    assert shown(["<think>hmm", " and so"]) == ""


def test_text_that_only_looks_like_a_tag_is_kept() -> None:
    assert shown(["if a <th", "ird: b <"]) == "if a <third: b <"
