from hypothesis import given
from hypothesis import strategies as st

from planes.serving.generation.tags import TagFilter


def parted(pieces: list[str]) -> tuple[str, str]:
    thinking = TagFilter("think")
    found = [*(thinking.feed(piece) for piece in pieces), thinking.finish()]
    return "".join(part.text for part in found), "".join(part.inside for part in found)


@given(st.lists(st.integers(1, 6), max_size=40))
def test_reasoning_is_parted_wherever_the_pieces_are_cut(lengths: list[int]) -> None:
    text, pieces = "<think>a <b> </thin c</think>\n\nThe answer is 1 < 2.", []
    for length in lengths:
        pieces.append(text[:length])
        text = text[length:]
    assert parted([*pieces, text]) == ("The answer is 1 < 2.", "a <b> </thin c")


def test_a_block_that_never_ends_leaves_no_answer() -> None:
    assert parted(["<think>hmm", " and so</th"]) == ("", "hmm and so</th")


def test_text_that_only_looks_like_a_tag_is_kept() -> None:
    assert parted(["if a <th", "ird: b <"]) == ("if a <third: b <", "")
