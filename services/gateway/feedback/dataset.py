"""Reviewed feedback as files of an evaluation set, in BEIR's form (Thakur et al. 2021).

`queries.jsonl` holds the questions, `qrels/test.tsv` the documents that answer them, by the ids
that they have on the platform. See https://arxiv.org/abs/2104.08663.
"""

from collections.abc import Sequence
from pathlib import Path

import orjson

from services.gateway.feedback.review import Reviewable


def write_dataset(folder: Path, items: Sequence[Reviewable]) -> None:
    """Write the files of an evaluation set; `folder` must be new or empty.

    A question without a document that answers it has no line in the qrels.

    Raises:
        FileExistsError: The folder holds something.
        OSError: It cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty.")
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "queries.jsonl").open("wb") as queries:
        queries.writelines(orjson.dumps(_query(each)) + b"\n" for each in items)
    lines = ["query-id\tcorpus-id\tscore"]
    lines += [f"{each.id}\t{document}\t1" for each in items for document in each.relevant]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", "utf-8")


def _query(item: Reviewable) -> dict[str, object]:
    about = {"rating": item.rating, "model": item.model, "correction": item.correction}
    return {"_id": str(item.id), "text": item.question, "metadata": about}
