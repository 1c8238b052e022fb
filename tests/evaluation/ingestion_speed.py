"""Ingest 1,000 texts of 5.5 KB at once, beside a bare loop over the same texts.

    python -m tests.evaluation.ingestion_speed http://127.0.0.1:8000 [COUNT]

Runs on the platform's own machine and wants it idle. DATA_CODE_PORT names the code server's port
where it is not the default. Prints documents a minute, processor seconds a document of the data
plane's processes and of the bare loop (parse, semchunk, embed in length-sorted batches), their
ratio, and the peak memory of every process. Every run's start is in the figures.
"""

import os
import sys
import time

import httpx

from services.cli.demo_client import DemoClient
from tests.evaluation.bare_loop import Bare, bare_loop
from tests.evaluation.processes import DataPlane
from tests.evaluation.texts import texts

_FINISHED = {"succeeded", "failed", "cancelled"}
_END_S = 10.0  # until the last run has ended too


def main(address: str, count: int) -> int:
    """Print the figures; return how many documents did not become ready."""
    plane = DataPlane(int(os.environ.get("DATA_CODE_PORT", "4266")))
    bare = bare_loop(count)
    with httpx.Client(base_url=address, timeout=300) as http:
        DemoClient(http).register()
        started = time.monotonic()
        with plane.watched():
            job = _upload(http, texts(count))
            uploaded_s = time.monotonic() - started
            progress = _finished(http, job)
            wall_s = time.monotonic() - started
            time.sleep(_END_S)
    print(f"{progress}, uploaded in {uploaded_s:.1f} s, all in {wall_s:.1f} s")
    print(f"{count / wall_s * 60:.0f} documents a minute")
    _print_cpu(plane, bare)
    for name, peak in plane.peak_bytes.items():
        print(f"peak memory, {name}: {peak >> 20} MB")
    return count - int(progress["ready"])


def _upload(http: httpx.Client, contents: list[bytes]) -> str:
    files = [("files", (f"{n}.txt", content)) for n, content in enumerate(contents)]
    answer = http.post("/documents/batch", files=files)
    answer.raise_for_status()
    return str(answer.json()["job_id"])


def _finished(http: httpx.Client, job: str) -> dict[str, int]:
    while True:
        state = http.get(f"/jobs/{job}").raise_for_status().json()
        if state["status"] in _FINISHED:
            progress: dict[str, int] = state["progress"]
            return progress
        time.sleep(2)


def _print_cpu(plane: DataPlane, bare: Bare) -> None:
    print(
        f"bare loop: {1e3 * bare.cpu_s / bare.documents:.0f} CPU-ms a document, "
        f"{bare.documents / bare.wall_s * 60:.0f} documents a minute, {bare.chunks} chunks"
    )
    for name, seconds in plane.cpu_s().items():
        print(f"{name}: {1e3 * seconds / bare.documents:.0f} CPU-ms a document")
    total = plane.total_s
    print(f"data plane: {1e3 * total / bare.documents:.0f} CPU-ms a document", end="")
    print(f", {total / bare.cpu_s:.2f} times the bare loop")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000) > 0)
