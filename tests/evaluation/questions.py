"""Ask questions with known answers by HTTP, and print answers, citations and gold side by side.

    python -m tests.evaluation.questions http://127.0.0.1:8000 path/to/eval [HOW_MANY]

The folder holds `docs/txt/` with articles and `retrieval/squad2_a/queries.jsonl` with questions
about them (SQuAD 2.0, Rajpurkar et al. 2018).
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from services.cli.demo_client import DemoClient


def main(address: str, folder: Path, how_many: int) -> int:
    """Ask, print, and return how many citations do not hold."""
    queries = folder / "retrieval" / "squad2_a" / "queries.jsonl"
    if not queries.is_file():
        sys.exit(f"There is no {queries}: pass the folder of the evaluation data.")
    with httpx.Client(base_url=address, timeout=120) as http:
        client = DemoClient(http)
        client.register()
        names = _ingest(client, sorted((folder / "docs" / "txt").glob("*.txt")))
        false_quotes = hits = 0
        chosen = _spread(queries, how_many)
        for query in chosen:
            answer = client.ask(query["text"])
            false_quotes += _print(client, query, answer, names)
            hits += any(
                gold in citation["quote"]
                for gold in query["metadata"]["answers"]
                for citation in answer["citations"]
            )
    print(f"\n{hits} of {len(chosen)} answers cite a sentence with a gold answer")
    print(f"{false_quotes} quotes are not in their document's text")
    return false_quotes


def _spread(queries: Path, how_many: int) -> list[dict[str, Any]]:
    """Return answerable questions, spread evenly over the file and so over its articles."""
    lines = queries.read_text("utf-8").splitlines()
    all_of_them = [json.loads(line) for line in lines if line]
    answerable = [q for q in all_of_them if not q["metadata"].get("is_impossible")]
    return answerable[:: max(1, len(answerable) // how_many)][:how_many]


def _ingest(client: DemoClient, files: list[Path]) -> dict[str, str]:
    ids = {client.upload(path.name, path.read_bytes()): path.name for path in files}
    waiting = set(ids)
    while waiting:
        waiting = {each for each in waiting if client.document(each)["status"] != "ready"}
        print(f"\r{len(ids) - len(waiting)} of {len(ids)} articles ready", end="", flush=True)
        time.sleep(1)
    print()
    return ids


def _print(
    client: DemoClient, query: dict[str, Any], answer: dict[str, Any], names: dict[str, str]
) -> int:
    """Print one question with its answer and return how many quotes are false."""
    print(f"\nQ     {query['text']}")
    print(f"A     {answer['message']['content']}  ({answer['model']}, {answer['finish_reason']})")
    print(f"gold  {' | '.join(query['metadata']['answers'])}  ({query['metadata']['article']})")
    false_quotes = 0
    for citation in answer["citations"]:
        text = client.text(citation["document_id"], citation["version"])
        holds = text[citation["start"] : citation["end"]] == citation["quote"]
        false_quotes += not holds
        place = f"{names[citation['document_id']]} {citation['start']}-{citation['end']}"
        print(f"{citation['marker']:5} {'holds' if holds else 'FALSE'}  {place}")
    return false_quotes


if __name__ == "__main__":
    wanted = int(sys.argv[3]) if len(sys.argv) > 3 else 10
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), wanted) > 0)
