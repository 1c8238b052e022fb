"""Reviewed feedback as files of an evaluation set, in BEIR's form (Thakur et al. 2021).

`corpus.jsonl` holds the tenant's documents, `queries.jsonl` the questions, `qrels/test.tsv` the
documents that answer them. See https://arxiv.org/abs/2104.08663.
"""

from collections.abc import AsyncIterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import orjson

from services.gateway.feedback.corpus import CorpusDocument
from services.gateway.feedback.review import Reviewable

_COLUMNS = "query-id\tcorpus-id\tscore\n"


@dataclass(frozen=True, slots=True)
class Written:
    """What an evaluation set holds; only questions with a document that answers them count."""

    documents: int
    questions: int
    judged: int


async def write_dataset(
    folder: Path, items: AsyncIterable[Reviewable], corpus: AsyncIterable[CorpusDocument]
) -> Written:
    """Write the files of an evaluation set; `folder` must be new or empty.

    A document that is not in the corpus any more answers nothing.

    Raises:
        FileExistsError: The folder holds something.
        OSError: It cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):  # noqa: ASYNC240 (an operator's command)
        raise FileExistsError(f"{folder} is not empty.")
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    answered_by: dict[UUID, tuple[UUID, ...]] = {}
    with (folder / "queries.jsonl").open("wb") as queries:
        async for item in items:
            queries.write(_query(item))
            answered_by[item.id] = item.relevant
    known: set[UUID] = set()
    with (folder / "corpus.jsonl").open("wb") as documents:
        async for document in corpus:
            documents.write(_line(_id=str(document.id), title=document.name, text=document.text))
            known.add(document.id)
    judged = {question: known.intersection(found) for question, found in answered_by.items()}
    with (folder / "qrels" / "test.tsv").open("w", encoding="utf-8") as qrels:
        qrels.write(_COLUMNS)
        for question, found in judged.items():
            qrels.writelines(f"{question}\t{document}\t1\n" for document in sorted(found))
    return Written(len(known), len(judged), sum(map(bool, judged.values())))


def _query(item: Reviewable) -> bytes:
    about = {"rating": item.rating, "model": item.model, "correction": item.correction}
    return _line(_id=str(item.id), text=item.question, metadata=about)


def _line(**values: object) -> bytes:
    return orjson.dumps(values) + b"\n"
