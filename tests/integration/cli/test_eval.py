"""`polyplane eval` in process: its own PostgreSQL, the real embedder, the product's retriever."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from services.cli.eval import app

CORPUS = {
    "herons": "Herons stand in shallow water. They eat fish and frogs.",
    "boats": "A boat needs a keel. The harbour holds forty of them.",
    "bread": "Bread is baked from flour, water and salt. It rises for an hour.",
}
QUERIES = {"herons": "What do herons eat?", "boats": "How many boats are there?"}


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three documents and two questions."""
    (tmp_path / "qrels").mkdir()
    entries = [{"_id": name, "title": name, "text": text} for name, text in CORPUS.items()]
    queries = [{"_id": name, "text": text} for name, text in QUERIES.items()]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, entries)), "utf-8")
    (tmp_path / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), "utf-8")
    grades = "".join(f"{name}\t{name}\t1\n" for name in QUERIES)
    (tmp_path / "qrels" / "test.tsv").write_text("query\tdocument\tgrade\n" + grades, "utf-8")
    return tmp_path


@pytest.mark.integration
@pytest.mark.parametrize("chunker", ["none", "semchunk-128"])
def test_a_dataset_is_measured_in_a_database_of_its_own(dataset: Path, chunker: str) -> None:
    arguments = ["--dataset", str(dataset), "--chunker", chunker, "--cache", str(dataset / "v")]
    ended = CliRunner().invoke(app, arguments)
    assert ended.exit_code == 0, ended.output
    assert "3 documents, 2 questions" in ended.output
    for way in ("meaning", "words", "sum of scores", "as in answers"):
        (line,) = [line for line in ended.output.splitlines() if line.startswith(way)]
        assert "1.000 (1.000-1.000)" in line
    assert (dataset / "v").exists()


def test_a_missing_folder_and_an_unknown_chunker_are_said_plainly(
    dataset: Path, tmp_path: Path
) -> None:
    for arguments in (["--dataset", str(tmp_path / "absent")], ["--chunker", "other"]):
        given = ["--dataset", str(dataset), *arguments]
        ended = CliRunner().invoke(app, given)
        assert ended.exit_code == 1
        assert "The evaluation failed" in ended.output
