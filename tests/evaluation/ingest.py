"""Ingest a folder of real files through the API and check what became of each.

    python -m tests.evaluation.ingest http://127.0.0.1:8000 path/to/eval

The folder holds `docs/` with a `manifest.jsonl` that names each file and words that its text must
contain. Every file must end ready, or failed with a reason; all but one of a ready file's words
must be found in its extracted text. On the platform's own machine it also prints the processor
seconds of the data plane's processes beside those of a bare loop over the same files.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from services.cli.demo_client import DemoClient
from tests.evaluation.bare_loop import bare_loop
from tests.evaluation.processes import DataPlane

_FINISHED = {"ready", "failed"}
_END_S = 10.0  # until the last run has ended too


def main(address: str, folder: Path) -> int:
    """Ingest everything, print what happened, and return how many files are wrong."""
    manifest = folder / "docs" / "manifest.jsonl"
    if not manifest.is_file():
        sys.exit(f"There is no {manifest}: pass the folder of the evaluation data.")
    plane = DataPlane(int(os.environ.get("DATA_CODE_PORT", "4266")))
    bare = bare_loop(folder / "docs")
    entries = [json.loads(line) for line in manifest.read_text("utf-8").splitlines() if line]
    with httpx.Client(base_url=address, timeout=60) as http:
        client = DemoClient(http)
        client.register()
        paths = [folder / entry["file"] for entry in entries]
        started = time.monotonic()
        with plane.watched():
            files = [("files", (path.name, path.read_bytes())) for path in paths]
            batch = http.post("/documents/batch", files=files).raise_for_status().json()
            print(f"uploaded {len(files)} files in {time.monotonic() - started:.1f} s")
            ids = {document["name"]: document["id"] for document in batch["documents"]}
            documents = _wait(client, ids)
            elapsed_s = time.monotonic() - started
            time.sleep(_END_S)
        wrong = sum(_check(client, entry, documents[Path(entry["file"]).name]) for entry in entries)
    ready = sum(document["status"] == "ready" for document in documents.values())
    chunks = sum(document["chunk_count"] for document in documents.values())
    rate = len(documents) / elapsed_s * 60
    print(f"{ready} ready, {len(documents) - ready} failed, {chunks} chunks, {wrong} wrong")
    print(f"{elapsed_s:.1f} s from the first upload to the last ready: {rate:.0f} documents/min")
    print(
        f"data plane: {plane.total_s / len(documents):.2f} CPU-s a document; bare loop: "
        f"{bare.cpu_s / bare.documents:.2f} and {bare.documents / bare.wall_s * 60:.0f} documents "
        f"a minute, {bare.chunks} chunks"
    )
    return wrong


def _wait(client: DemoClient, ids: dict[str, str]) -> dict[str, dict[str, Any]]:
    documents: dict[str, dict[str, Any]] = {}
    while len(documents) < len(ids):
        for file, document_id in ids.items():
            if file not in documents:
                document = client.document(document_id)
                if document["status"] in _FINISHED:
                    documents[file] = document
        print(f"\r{len(documents)} of {len(ids)} finished", end="", flush=True)
        time.sleep(2)
    print()
    return documents


def _check(client: DemoClient, entry: dict[str, Any], document: dict[str, Any]) -> bool:
    """Print what is notable about a file and return whether it is wrong."""
    if document["status"] == "failed":
        error = document["error"]
        print(f"failed   {entry['file']}: {error['code']}: {error['detail']}")
        return bool(entry["must_contain_words"])
    text = client.text(document["id"], document["version"])
    missing = [word for word in entry["must_contain_words"] if word not in text]
    if len(missing) > 1 or document["chunk_count"] == 0:
        print(f"wrong    {entry['file']}: missing {missing}, {document['chunk_count']} chunks")
        return True
    if missing:
        print(f"ready    {entry['file']}: without {missing[0]}")
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])) > 0)
