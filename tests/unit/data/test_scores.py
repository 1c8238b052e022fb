import json
from pathlib import Path

import pytest

from planes.data.evaluation.dataset import Dataset, Entry, JudgedQuestion, read_dataset
from planes.data.evaluation.metrics import interval, mrr_at
from planes.data.evaluation.scores import score
from planes.shared.errors import InvalidInput


def test_the_reciprocal_rank_is_that_of_the_first_relevant_document() -> None:
    assert mrr_at(10, ["a", "b", "c"], {"b": 1.0, "c": 2.0}) == 0.5
    assert mrr_at(1, ["a", "b"], {"b": 1.0}) == 0.0
    assert mrr_at(10, ["a"], {"a": 0.0}) == 0.0


def test_an_interval_holds_the_mean_and_narrows_with_more_questions() -> None:
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 500
    low, high = interval(few)
    assert low < 0.5 < high
    assert interval(many)[1] - interval(many)[0] < high - low
    assert interval(few) == (low, high), "the same values, the same interval"
    assert interval([0.3]) == pytest.approx((0.3, 0.3))


def test_ways_are_compared_question_by_question() -> None:
    questions = [JudgedQuestion("x", {"a": 1.0}), JudgedQuestion("y", {"b": 1.0})] * 20
    found = {"good": [["a"], ["b"]] * 20, "bad": [["a"], ["c", "b"]] * 20}
    scores = score(questions, found, reference="good")
    assert scores["good"]["NDCG@10"].mean == 1.0
    assert scores["good"]["NDCG@10"].gain is None
    gain = scores["bad"]["MRR@10"].gain
    assert gain is not None
    assert gain[0] < -0.25 < gain[1] < 0


def write(folder: Path, *, queries: list[dict[str, str]], judgements: str) -> None:
    (folder / "qrels").mkdir(exist_ok=True)
    corpus = [{"_id": "a", "title": "A", "text": "one"}, {"_id": "b", "text": "two"}]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        lines = "\n".join(map(json.dumps, rows))
        (folder / f"{name}.jsonl").write_text(lines + "\n", "utf-8")
    (folder / "qrels" / "test.tsv").write_text(judgements, "utf-8")


def test_a_folder_is_read_without_questions_that_nothing_answers(tmp_path: Path) -> None:
    queries = [{"_id": "1", "text": "one?"}, {"_id": "2", "text": "none?"}]
    write(tmp_path, queries=queries, judgements="q\td\ts\n1\ta\t1\n2\tb\t0\n")
    assert read_dataset(tmp_path) == Dataset(
        tmp_path.name,
        (Entry(_id="a", title="A", text="one"), Entry(_id="b", text="two")),
        (JudgedQuestion("one?", {"a": 1.0}),),
    )


def test_flaws_of_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"corpus\.jsonl cannot be read"):
        read_dataset(tmp_path)
    write(tmp_path, queries=[{"_id": "1", "text": ""}], judgements="q\td\ts\n")
    with pytest.raises(InvalidInput, match=r"queries\.jsonl, line 1: text"):
        read_dataset(tmp_path)
    write(tmp_path, queries=[{"_id": "1", "text": "one?"}], judgements="q\td\ts\n1 a 1\n")
    with pytest.raises(InvalidInput, match=r"test\.tsv, line 2"):
        read_dataset(tmp_path)
    write(tmp_path, queries=[{"_id": "1", "text": "one?"}], judgements="q\td\ts\n9\ta\t1\n")
    with pytest.raises(InvalidInput, match="question 9"):
        read_dataset(tmp_path)


def test_fewer_questions_are_spread_over_all() -> None:
    questions = tuple(JudgedQuestion(str(number), {"a": 1.0}) for number in range(10))
    dataset = Dataset("x", (), questions)
    assert [q.text for q in dataset.with_questions(3).questions] == ["0", "3", "6"]
    assert dataset.with_questions(None) == dataset
    assert dataset.with_questions(99) == dataset
