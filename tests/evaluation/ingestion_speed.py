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
from dataclasses import dataclass

import httpx

from services.cli.demo_client import DemoClient
from tests.evaluation.bare_loop import bare_loop
from tests.evaluation.processes import DataPlane
from tests.evaluation.texts import texts

_FINISHED = {"succeeded", "failed", "cancelled"}
_END_S = 10.0  # until the last run has ended too


@dataclass(frozen=True, slots=True)
class Ingested:
    """What one batch took, from the upload to the last document.

    Attributes:
        ready: How many documents became ready.
        cpu_s: Of the data plane, by kind of process; what ran between two looks is missing.
        total_cpu_s: Of the data plane, all of it.
        peak_bytes: By kind of process.
    """

    documents: int
    ready: int
    uploaded_s: float
    wall_s: float
    cpu_s: dict[str, float]
    total_cpu_s: float
    peak_bytes: dict[str, int]

    @property
    def per_minute(self) -> float:
        """Documents a minute."""
        return 60 * self.documents / self.wall_s

    @property
    def cpu_ms(self) -> float:
        """Processor milliseconds a document."""
        return 1e3 * self.total_cpu_s / self.documents


def ingest(address: str, count: int, code_port: int) -> Ingested:
    """Upload so many texts as a new tenant; return once all are through."""
    plane = DataPlane(code_port)
    with httpx.Client(base_url=address, timeout=300) as http:
        DemoClient(http).register()
        started = time.monotonic()
        with plane.watched():
            job = _upload(http, texts(count))
            uploaded_s = time.monotonic() - started
            progress = _finished(http, job)
            wall_s = time.monotonic() - started
            time.sleep(_END_S)
    return Ingested(
        documents=count,
        ready=int(progress["ready"]),
        uploaded_s=uploaded_s,
        wall_s=wall_s,
        cpu_s=plane.cpu_s(),
        total_cpu_s=plane.total_s,
        peak_bytes=dict(plane.peak_bytes),
    )


def main(address: str, count: int) -> int:
    """Print the figures; return how many documents did not become ready."""
    bare = bare_loop(count)
    done = ingest(address, count, int(os.environ.get("DATA_CODE_PORT", "4266")))
    print(f"{done.ready} ready, uploaded in {done.uploaded_s:.1f} s, all in {done.wall_s:.1f} s")
    print(f"{done.per_minute:.0f} documents a minute")
    print(
        f"bare loop: {bare.cpu_ms:.0f} CPU-ms a document, {bare.per_minute:.0f} documents a "
        f"minute, {bare.chunks} chunks"
    )
    for name, seconds in done.cpu_s.items():
        print(f"{name}: {1e3 * seconds / count:.0f} CPU-ms a document")
    print(
        f"data plane: {done.cpu_ms:.0f} CPU-ms a document, {done.cpu_ms / bare.cpu_ms:.2f} times "
        "the bare loop"
    )
    for name, peak in done.peak_bytes.items():
        print(f"peak memory, {name}: {peak >> 20} MB")
    return count - done.ready


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000) > 0)
