"""Questions with known answers: from a file, or sentences of stored documents."""

import random
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planes.shared.errors import InvalidInput

_SENTENCE_END = re.compile(r"(?<=[.!?\u3002])\s+|\n+")
_MOST_WORDS = 30


@dataclass(frozen=True, slots=True)
class Question:
    """A question of one tenant, with a grade above 0 for each document that answers it."""

    tenant_id: UUID
    text: str
    grades: Mapping[UUID, float]


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """A chunk's text and where it stands."""

    tenant_id: UUID
    document_id: UUID
    text: str


class _Line(BaseModel):
    """One line of a file of questions."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    tenant_id: UUID
    query: str = Field(min_length=1, max_length=4000)
    relevant: dict[UUID, float] = Field(min_length=1)


def read_questions(path: Path) -> list[Question]:
    r"""Read JSON Lines of `{"tenant_id", "query", "relevant": {document_id: grade}}`.

    Raises:
        InvalidInput: A line is something else, or there is none; it names the line.
        OSError: The file cannot be read.
    """
    questions = []
    for number, text in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not text.strip():
            continue
        try:
            line = _Line.model_validate_json(text)
        except ValidationError as error:
            flaw = error.errors()[0]
            place = ".".join(map(str, flaw["loc"]))
            raise InvalidInput(f"{path}, line {number}: {place} {flaw['msg']}.") from error
        questions.append(Question(line.tenant_id, line.query, line.relevant))
    if not questions:
        raise InvalidInput(f"There is no question in {path}.")
    return questions


def known_items(passages: Iterable[StoredPassage], *, seed: int) -> list[Question]:
    """Make a question of one sentence of each passage, which its document must answer.

    A passage's longest sentences are preferred, cut after 30 words; the seed picks among three.
    """
    chance = random.Random(seed)  # noqa: S311 - not a secret
    questions = []
    for passage in passages:
        sentences = sorted(_SENTENCE_END.split(passage.text), key=len, reverse=True)[:3]
        words = chance.choice(sentences).split()[:_MOST_WORDS]
        if words:
            grades = {passage.document_id: 1.0}
            questions.append(Question(passage.tenant_id, " ".join(words), grades))
    return questions
