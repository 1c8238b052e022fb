import pytest

from planes.serving.agent.citations import CitationTracker
from planes.serving.agent.grounding import unsupported_spans
from planes.serving.agent.prompts import DECLINED
from tests.fakes_serving import passage

HARBOUR = passage("The harbour opened in 1901. Its cranes were built in Leith.")


def unsupported(answer: str) -> list[str]:
    tracker = CitationTracker([HARBOUR])
    tracker.feed(answer)
    spans = unsupported_spans(answer, tracker.supported, [HARBOUR.chunk.text])
    return [answer[span.start : span.end] for span in spans]


@pytest.mark.parametrize(
    "answer",
    [
        "The harbour opened in 1901 [1].",
        "The harbour opened in 1901. [1]",
        "It opened in 1901 [1] as a harbour. Its cranes were built in Leith [1].",
        "The harbour opened in 1901. Its cranes were built in Leith. [1]",
        "Here is what I found:\n- The harbour opened in 1901 [1]",
        "Do you mean the harbour?",
        DECLINED,
    ],
)
def test_what_is_cited_or_claims_nothing_is_not_marked(answer: str) -> None:
    assert unsupported(answer) == []


def test_a_sentence_without_a_marker_is_marked() -> None:
    answer = "The harbour opened in 1901 [1]. Penguins live in it."
    assert unsupported(answer) == ["Penguins live in it."]


def test_a_marker_whose_passage_says_something_else_supports_nothing() -> None:
    assert unsupported("The harbour opened in 1950 [1].") == ["The harbour opened in 1950 [1]."]
    assert unsupported("Penguins live in it [7].") == ["Penguins live in it [7]."]


def test_a_paraphrase_supports_only_the_sentence_before_its_marker() -> None:
    answer = "Queens came to see it. Leith built the cranes. [1]"
    assert unsupported(answer) == ["Queens came to see it."]


def test_words_in_quotation_marks_must_stand_in_a_passage() -> None:
    true = 'They say "its cranes were  built in Leith" [1].'
    false = 'They say "the cranes of Leith were built to last" [1].'
    assert unsupported(true) == []
    assert unsupported(false) == [false]
