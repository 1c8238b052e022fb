"""How two generations of the index are compared."""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from planes.data.evaluation.comparison import compare
from planes.data.evaluation.metrics import ndcg_at, overlap_at, recall_at
from planes.data.evaluation.questions import (
    Question,
    StoredPassage,
    known_items,
    read_questions,
)
from planes.shared.errors import InvalidInput

A, B, C, D = (uuid4() for _ in range(4))


def test_recall_counts_the_relevant_documents_that_were_found() -> None:
    assert recall_at(2, [A, B, C], {B: 1.0, C: 1.0}) == 0.5
    assert recall_at(3, [A, B, C], {B: 1.0, C: 1.0, D: 0.0}) == 1.0
    assert recall_at(3, [], {A: 1.0}) == 0.0


def test_ndcg_is_one_for_the_best_order_and_less_for_others() -> None:
    grades = {A: 3.0, B: 1.0}
    assert ndcg_at(10, [A, B, C], grades) == pytest.approx(1.0)
    assert ndcg_at(10, [C, A], {A: 1.0}) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg_at(10, [B, A], grades) < 1.0
    assert ndcg_at(1, [C, A], {A: 1.0}) == 0.0


def test_overlap_is_the_share_that_both_found() -> None:
    assert overlap_at(2, [A, B], [B, C, A]) == 0.5
    assert overlap_at(10, [], []) == 1.0
    assert overlap_at(10, [], [A]) == 0.0


async def test_a_comparison_tells_how_either_generation_answers() -> None:
    async def search(question: Question, generation: int) -> Sequence[UUID]:
        del question
        return [A, B] if generation == 1 else [C, A]

    found = await compare([Question(D, "where?", {A: 1.0})], search, live=1, other=2)
    assert (found.live.recall, found.other.recall) == (1.0, 1.0)
    assert found.live.ndcg > found.other.ndcg
    assert found.overlap == 0.5


def test_sentences_of_stored_passages_ask_for_their_documents() -> None:
    text = "Short. The heron stands in the shallow water and waits for fish. " + "word " * 200
    passages = [StoredPassage(D, A, text), StoredPassage(D, B, "")]
    (question,) = known_items(passages, seed=1)
    assert question.grades == {A: 1.0}
    assert question.text in text
    assert len(question.text.split()) <= 30
    assert [question] == known_items(passages, seed=1), "the same seed, the same questions"


def test_a_file_of_questions_is_read_and_its_flaws_are_named(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    file.write_text(f'{{"tenant_id": "{D}", "query": "where?", "relevant": {{"{A}": 2}}}}\n\n')
    assert read_questions(file) == [Question(D, "where?", {A: 2.0})]
    file.write_text(f'\n{{"tenant_id": "{D}", "query": "where?", "relevant": {{}}}}\n')
    with pytest.raises(InvalidInput, match="line 2: relevant"):
        read_questions(file)
    file.write_text("\n")
    with pytest.raises(InvalidInput, match="no question"):
        read_questions(file)
