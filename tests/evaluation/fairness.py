"""Measure one tenant's single uploads while another one has thousands of documents waiting.

    python -m tests.evaluation.fairness http://127.0.0.1:8000 [DOCUMENTS]

Each upload is timed until a search finds it: first on the idle platform, then behind DOCUMENTS
(10,000) texts of 5.5 KB. The other tenant is moved to the plan `enterprise` by `polyplane admin`,
so this runs where POLYPLANE_HOME is the platform's.
"""

import secrets
import statistics
import subprocess
import sys
import time

import httpx

from services.cli.demo_client import DemoClient
from tests.evaluation.texts import texts

_IDLE_UPLOADS = 7
_UPLOADS = 20
_PAUSE_S = 8.0
_FILES_A_BATCH = 1000


def main(address: str, documents: int) -> None:
    """Print medians and 95th percentiles."""
    with (
        httpx.Client(base_url=address, timeout=300) as big,
        httpx.Client(base_url=address, timeout=60) as small,
    ):
        DemoClient(small).register()
        idle = [_searchable(small) for _ in range(_IDLE_UPLOADS)]
        _print("idle platform", idle)
        user = DemoClient(big).register()
        _raise_limits(user.email)
        jobs = [_queue(big, seed) for seed in range(documents // _FILES_A_BATCH)]
        behind = [_searchable(small) for _ in range(_UPLOADS)]
        _print(f"behind {documents} documents of another tenant", behind)
        waiting = sum(_unfinished(big, job) for job in jobs)
        print(f"of which {waiting} still waited at the end")


def _searchable(http: httpx.Client) -> float:
    time.sleep(_PAUSE_S)
    word = "z" + secrets.token_hex(8)
    started = time.monotonic()
    text = f"The password of the {word} lighthouse is written beside its door."
    DemoClient(http).upload(f"{word}.txt", text.encode())
    query = {"query": f"password of the {word} lighthouse", "top_k": 1}
    while True:
        passages = http.post("/search", json=query).raise_for_status().json()["passages"]
        if passages and word in passages[0]["text"]:
            return time.monotonic() - started
        time.sleep(0.2)


def _queue(http: httpx.Client, seed: int) -> str:
    contents = texts(_FILES_A_BATCH, seed=seed + 2)
    files = [("files", (f"{n}.txt", content)) for n, content in enumerate(contents)]
    return str(http.post("/documents/batch", files=files).raise_for_status().json()["job_id"])


def _unfinished(http: httpx.Client, job: str) -> int:
    progress = http.get(f"/jobs/{job}").raise_for_status().json()["progress"]
    return int(progress["total"] - progress["ready"] - progress["failed"])


def _raise_limits(email: str) -> None:
    command = [sys.executable, "-m", "services.cli", "admin", "set-plan"]
    subprocess.run([*command, "--plan", "enterprise", "--email", email], check=True)


def _print(name: str, seconds: list[float]) -> None:
    p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
    print(f"{name}: median {statistics.median(seconds):.1f} s, p95 {p95:.1f} s, ", end="")
    print(f"most {max(seconds):.1f} s of {len(seconds)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10_000)
