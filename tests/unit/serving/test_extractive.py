from collections.abc import Sequence
from dataclasses import replace

import pytest

from planes.serving.agent.citations import CitationTracker
from planes.serving.agent.inert import InertText
from planes.serving.agent.prompts import DECLINED
from planes.serving.generation.extractive import ExtractiveGenerator
from planes.serving.generation.fitting import PromptRead
from planes.serving.generation.tokens import TokenCounter
from planes.shared.domain import ChatMode, FinishReason, Passage
from planes.shared.embedding import MiniLMEmbedder, load_tokenizer
from planes.shared.errors import NoLanguageModel
from planes.shared.ports import Generated, Prompt
from tests.fakes_serving import embedding_in_process, passage

TOWN = [
    passage(
        "Leith is a port town. The old harbour of Leith was opened in 1901 by the queen.[3] Its "
        "cranes were removed after the war. Ferries leave every hour.",
        start=100,
    ),
    passage("The town hall keeps a café. The library closes at six in the evening.", score=0.2),
]


@pytest.fixture(scope="module")
def generator() -> ExtractiveGenerator:
    tokens = TokenCounter(load_tokenizer())
    embed = embedding_in_process(MiniLMEmbedder())
    return ExtractiveGenerator(lambda _: embed, lambda _: embed, tokens)


def prompt(
    question: str,
    passages: Sequence[Passage] = TOWN,
    *,
    mode: ChatMode = ChatMode.RAG,
    max_tokens: int = 256,
    max_prompt_tokens: int = 4096,
) -> Prompt:
    return Prompt(question, question, mode, passages, (), max_prompt_tokens, max_tokens)


async def answer(generator: ExtractiveGenerator, asked: Prompt) -> tuple[str, list[Generated]]:
    pieces = [piece async for piece in generator.generate(asked)]
    return "".join(piece.text for piece in pieces), pieces


async def test_the_answer_is_the_sentence_that_answers_with_its_marker(
    generator: ExtractiveGenerator,
) -> None:
    text, pieces = await answer(generator, prompt("When was the old harbour of Leith opened?"))
    assert text == "The old harbour of Leith was opened in 1901 by the queen. [1]"
    assert pieces[-1].finish_reason is FinishReason.STOP


async def test_its_citation_quotes_the_passage_as_it_stands(generator: ExtractiveGenerator) -> None:
    text, _ = await answer(generator, prompt("When was the old harbour of Leith opened?"))
    (citation,) = CitationTracker(TOWN).feed(text)
    source = TOWN[0].chunk
    quoted = source.text[citation.start - 100 : citation.end - 100]
    assert quoted == citation.quote
    assert quoted.startswith("The old harbour of Leith was opened in 1901 by the queen.")


@pytest.mark.parametrize(
    "question", ["What is the boiling point of helium?", "Who won the 1966 world cup?"]
)
async def test_what_the_passages_do_not_answer_is_declined(
    generator: ExtractiveGenerator, question: str
) -> None:
    text, pieces = await answer(generator, prompt(question))
    assert text == DECLINED
    assert pieces[-1].finish_reason is FinishReason.DECLINED


async def test_without_passages_it_declines(generator: ExtractiveGenerator) -> None:
    text, _ = await answer(generator, prompt("When did the harbour open?", []))
    assert text == DECLINED


async def test_tokens_rise_piece_by_piece_and_stay_in_their_limits(
    generator: ExtractiveGenerator,
) -> None:
    asked = prompt("When was the old harbour of Leith opened?", max_tokens=9, max_prompt_tokens=60)
    text, pieces = await answer(generator, asked)
    counts = [piece.completion_tokens for piece in pieces]
    assert counts == sorted(counts)
    assert counts[-1] <= 9
    assert pieces[-1].prompt_tokens <= 60
    assert pieces[-1].finish_reason is FinishReason.LENGTH
    assert text.startswith("The old harbour")


async def test_an_answer_is_cut_between_sentences(generator: ExtractiveGenerator) -> None:
    first = "The port of Leith was opened in 1901."
    second = "In 1901 the port of Leith was opened."
    asked = prompt("When was the port of Leith opened?", [passage(f"{first} {second}")])
    whole, _ = await answer(generator, asked)
    assert whole == f"{first} {second} [1]"
    text, pieces = await answer(generator, replace(asked, max_tokens=20))
    assert text in {f"{first} [1]", f"{second} [1]"}
    assert pieces[-1].finish_reason is FinishReason.LENGTH
    text, _ = await answer(generator, replace(asked, max_tokens=5))
    assert text
    assert any(sentence.startswith(text) for sentence in (first, second))


async def test_a_neighbour_that_tells_more_is_quoted_in_one_span(
    generator: ExtractiveGenerator,
) -> None:
    page = "The harbour of Leith\nhas cranes. The harbour has four cranes [3]. Trams came later."
    shelf = [passage(page, start=9)]
    text, _ = await answer(generator, prompt("How many cranes has the harbour of Leith?", shelf))
    assert text == "The harbour of Leith has cranes. The harbour has four cranes. [1]"
    tracker = CitationTracker(shelf)
    (citation,) = tracker.feed(text)
    assert citation.quote == page[: page.index(" Trams")]
    assert tracker.supported == [(0, text.index("[1]"))]


async def test_it_tells_how_many_passages_it_considered(generator: ExtractiveGenerator) -> None:
    asked = prompt("When was the old harbour of Leith opened?", max_prompt_tokens=50)
    _, (first, *_) = await answer(generator, asked)
    assert isinstance(first, PromptRead)
    assert first.passages == 1


async def test_open_chat_needs_a_language_model(generator: ExtractiveGenerator) -> None:
    with pytest.raises(NoLanguageModel, match="SERVING_OPENAI_BASE_URL") as refusal:
        await answer(generator, prompt("Hello?", mode=ChatMode.OPEN))
    assert (refusal.value.status, refusal.value.code) == (503, "no-language-model")
    assert "polyplane models pull" in refusal.value.detail


async def test_links_and_images_of_a_document_are_quoted_as_data_and_shown_as_words(
    generator: ExtractiveGenerator,
) -> None:
    page = (
        "The old harbour of Leith [opened](https://evil.example/login) in 1901 "
        "![so](https://evil.example/?q=1)."
    )
    text, _ = await answer(
        generator, prompt("When was the old harbour of Leith opened?", [passage(page)])
    )
    shown = InertText([page])
    content = shown.feed(text) + shown.finish()
    assert content == "The old harbour of Leith [opened] in 1901 ![so]. [1]"
    (citation,) = CitationTracker([passage(page)]).feed(content)
    assert citation.quote == page


async def test_headings_and_labels_are_no_answers(generator: ExtractiveGenerator) -> None:
    page = "Port of Leith\n\n## The port of Leith\n\nPort operator:\n\nLeith lies in Scotland."
    text, _ = await answer(generator, prompt("Where is the port of Leith?", [passage(page)]))
    assert text == "Leith lies in Scotland. [1]"
