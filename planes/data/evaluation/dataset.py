"""Questions over a corpus with judgements, in the format of BEIR.

Thakur et al. 2021, https://arxiv.org/abs/2104.08663: a folder with `corpus.jsonl`, `queries.jsonl`
and `qrels/test.tsv`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planes.shared.errors import InvalidInput


class Entry(BaseModel):
    """A document of the corpus."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    id: str = Field(alias="_id", min_length=1)
    title: str = ""
    text: str


class _Query(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    id: str = Field(alias="_id")
    text: str = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class JudgedQuestion:
    """A question with a grade above 0 for each entry that answers it."""

    text: str
    grades: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A corpus and what is asked of it; questions that nothing answers are left out."""

    name: str
    corpus: tuple[Entry, ...]
    questions: tuple[JudgedQuestion, ...]

    def with_questions(self, limit: int | None) -> Self:
        """Return the dataset with that many of its questions, spread over all; None: all."""
        step = max(1, len(self.questions) // (limit or len(self.questions)))
        return replace(self, questions=self.questions[::step][:limit])


Row = TypeVar("Row", bound=BaseModel)


def read_dataset(folder: Path) -> Dataset:
    """Read a folder.

    Raises:
        InvalidInput: A file is absent or a line of it wrong; the message names it.
    """
    corpus = tuple(_rows(folder / "corpus.jsonl", Entry))
    queries = {row.id: row.text for row in _rows(folder / "queries.jsonl", _Query)}
    grades = _judgements(folder / "qrels" / "test.tsv")
    if unknown := grades.keys() - queries.keys():
        raise InvalidInput(f"{folder} has judgements of question {min(unknown)}, which it lacks.")
    questions = tuple(JudgedQuestion(queries[q], found) for q, found in grades.items())
    if not corpus or not questions:
        raise InvalidInput(f"{folder} holds no corpus, or no question that it answers.")
    return Dataset(folder.resolve().name, corpus, questions)


def _rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    for number, line in _lines(path):
        try:
            yield kind.model_validate_json(line)
        except ValidationError as error:
            flaw = error.errors()[0]
            place = ".".join(map(str, flaw["loc"]))
            raise InvalidInput(f"{path}, line {number}: {place} {flaw['msg']}.") from error


def _judgements(path: Path) -> dict[str, dict[str, float]]:
    """Return the positive grades of each question by entry; the first line names the columns."""
    grades: dict[str, dict[str, float]] = {}
    for number, line in list(_lines(path))[1:]:
        try:
            query, entry, grade = line.split("\t")
            if float(grade) > 0:
                grades.setdefault(query, {})[entry] = float(grade)
        except ValueError as error:
            raise InvalidInput(f"{path}, line {number}: not query, entry and grade.") from error
    return grades


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read. A folder in BEIR's format holds corpus.jsonl, queries.jsonl "
            "and qrels/test.tsv."
        ) from error
    return ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())
