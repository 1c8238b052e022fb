from dataclasses import replace

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from planes.serving.agent.citations import CitationTracker, best_quote, cite, holds
from planes.shared.domain import Passage
from tests.fakes_serving import passage

HARBOUR = passage("The harbour opened in 1901. Its cranes were built in Leith.", start=40)
BRIDGE = passage("The bridge is 300 m long. It was painted red in 1950.", start=7)


def quotes(tracker: CitationTracker, *pieces: str) -> list[str]:
    return [citation.quote for piece in pieces for citation in tracker.feed(piece)]


def test_a_marker_is_cited_with_the_sentence_that_supports_its_claim() -> None:
    tracker = CitationTracker([HARBOUR, BRIDGE])
    assert quotes(tracker, "The cranes come from Leith [1]. ", "Red paint came in 1950 [2].") == [
        "Its cranes were built in Leith.",
        "It was painted red in 1950.",
    ]


def test_what_stands_beside_a_passage_is_quoted_from_its_own_place() -> None:
    before = passage("A lock was dug in 1880.", start=10).chunk
    tracker = CitationTracker([replace(HARBOUR, beside=(before,))])
    claims = "The lock was dug in 1880 [1]. ", "Its cranes were built in Leith. [1]"
    lock, cranes = (tracker.feed(claim)[0] for claim in claims)
    assert (lock.quote, lock.start, lock.end) == (before.text, 10, 33)
    assert (cranes.quote, cranes.start) == ("Its cranes were built in Leith.", 68)


def test_offsets_count_from_the_beginning_of_the_document() -> None:
    (citation,) = CitationTracker([HARBOUR]).feed("Its cranes were built in Leith. [1]")
    assert (citation.start, citation.end) == (68, 99)
    text = HARBOUR.chunk.text
    assert text[citation.start - 40 : citation.end - 40] == citation.quote


def test_a_marker_cut_in_two_pieces_is_cited_once_it_is_whole() -> None:
    tracker = CitationTracker([HARBOUR])
    assert quotes(tracker, "It opened in 1901 [") == []
    assert quotes(tracker, "1]") == ["The harbour opened in 1901."]


def test_markers_that_name_nothing_are_no_citations() -> None:
    tracker = CitationTracker([HARBOUR])
    assert quotes(tracker, "It opened in 1901 [0] [2] [99].") == []


def test_a_claim_that_shares_no_word_with_its_passage_is_not_cited() -> None:
    assert quotes(CitationTracker([HARBOUR]), "Penguins swim [1].") == []


def test_neighbouring_markers_support_the_same_sentence() -> None:
    tracker = CitationTracker([HARBOUR, BRIDGE])
    assert quotes(tracker, "The harbour is from 1901. The bridge is 300 m long [2][1].") == [
        "The bridge is 300 m long.",
    ]
    assert quotes(tracker, " The harbour opened for ships [2][1].") == [
        "The harbour opened in 1901.",
    ]


def test_the_same_quote_is_cited_once() -> None:
    tracker = CitationTracker([HARBOUR])
    assert len(quotes(tracker, "Opened in 1901 [1].", " It opened in 1901 [1].")) == 1


@pytest.mark.parametrize(
    "claim",
    [
        "The tower has 40 floors",
        "The tower collapsed",
        "The tower closed in 1990",
        "Since the fire of last winter the tower by the river is closed for repairs",
    ],
)
def test_a_claim_that_its_passage_hardly_touches_is_not_cited(claim: str) -> None:
    assert quotes(CitationTracker([passage("The tower is closed.")]), f"{claim} [1].") == []


def test_a_number_of_the_claim_stands_in_the_quote_however_its_thousands_are_set_off() -> None:
    tracker = CitationTracker([passage("The tower has 1,200 steps to its roof.")])
    assert quotes(tracker, "The tower has 1300 steps [1].") == []
    assert quotes(tracker, "The tower has 12 steps [1].") == []
    assert len(quotes(tracker, "The tower has 1200 steps [1].")) == 1


@pytest.mark.parametrize("broken", ["length", "empty"])
def test_a_citation_that_would_not_hold_is_not_made(broken: str) -> None:
    text = HARBOUR.chunk.text
    shifted = replace(HARBOUR.chunk, end=HARBOUR.chunk.end + 1)
    if broken == "length":
        assert cite(1, Passage(shifted, "guide.txt", 1, 1.0), (0, 5)) is None
    else:
        assert cite(1, HARBOUR, (5, 5)) is None
        assert cite(1, HARBOUR, (len(text), len(text) + 9)) is None


@pytest.mark.parametrize(
    "change", [{"start": 67}, {"end": 100}, {"quote": "Its cranes were built in Leeds."}]
)
def test_a_quote_that_is_not_the_text_at_its_offsets_does_not_hold(
    change: dict[str, object],
) -> None:
    citation = cite(1, HARBOUR, (28, 59))
    assert citation is not None
    assert holds(citation, HARBOUR.chunk)
    assert not holds(citation.model_copy(update=change), HARBOUR.chunk)


def test_a_chunk_whose_offsets_do_not_fit_its_text_is_not_cited_but_logged() -> None:
    moved = replace(HARBOUR, chunk=replace(HARBOUR.chunk, start=HARBOUR.chunk.start + 3))
    with structlog.testing.capture_logs() as logs:
        assert CitationTracker([moved]).feed("The harbour opened in 1901 [1].") == []
    assert [line["event"] for line in logs] == ["citation dropped"]


words = st.lists(
    st.sampled_from(["harbour", "bridge", "crane", "paint", "red", "old", "opened"]), max_size=8
)


@given(st.lists(words.map(" ".join), min_size=1, max_size=4), words.map(" ".join))
def test_every_citation_holds_by_its_offsets(texts: list[str], claim: str) -> None:
    passages = [passage(f"{text}. And {text[::-1]}!", start=11 * i) for i, text in enumerate(texts)]
    answer = "".join(f"{claim} [{number}]. " for number in range(len(passages) + 2))
    for citation in CitationTracker(passages).feed(answer):
        source = passages[int(citation.marker[1:-1]) - 1].chunk
        assert source.text[citation.start - source.start : citation.end - source.start] == (
            citation.quote
        )


def test_an_exact_sentence_wins_over_one_with_the_same_words() -> None:
    text = "Leith built cranes. Cranes built Leith."
    assert best_quote("Cranes built Leith.", text, "en") == (20, 39)
