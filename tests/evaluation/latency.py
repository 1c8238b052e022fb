"""Measure one small upload until it is ready, and one question after the other.

    python -m tests.evaluation.latency http://127.0.0.1:8000 [http://127.0.0.1:3000]

The pauses let the platform fall idle between uploads. The second address is Dagster's; the uploads'
runs are then split by step.
"""

import statistics
import sys
import time

import httpx

from services.cli.demo_client import DemoClient

_UPLOADS = 7
_PAUSE_S = 12.0
_QUESTIONS = 30


_RUNS = """
query Runs($limit: Int!) {
  runsOrError(filter: {pipelineName: "ingestion"}, limit: $limit) {
    ... on Runs { results { creationTime startTime endTime
      stepStats { stepKey startTime endTime } } }
  }
}
"""


def main(address: str, dagster: str | None) -> None:
    """Print medians and ranges."""
    with httpx.Client(base_url=address, timeout=60) as http:
        client = DemoClient(http)
        client.register()
        uploads = [_upload(client, number) for number in range(_UPLOADS)]
        answers = [_ask(client, number % _UPLOADS) for number in range(_QUESTIONS)]
    _print("upload to ready", uploads)
    _print("answer", answers)
    if dagster:
        for name, seconds in _split(dagster).items():
            _print(f"  {name}", seconds)


def _split(dagster: str) -> dict[str, list[float]]:
    """Return how long each part of the latest runs took, in the order of time."""
    body = {"query": _RUNS, "variables": {"limit": _UPLOADS}}
    answer = httpx.post(f"{dagster}/graphql", json=body, timeout=60).raise_for_status().json()
    parts: dict[str, list[float]] = {}
    for run in answer["data"]["runsOrError"]["results"]:
        steps = sorted(run["stepStats"], key=lambda step: step["startTime"])
        last, name = run["creationTime"], "queue"
        for place, until in [("process and resources", run["startTime"])] + [
            (step["stepKey"], step["startTime"]) for step in steps
        ]:
            parts.setdefault(name, []).append(until - last)
            last, name = until, place
        parts.setdefault(name, []).append(run["endTime"] - last)
    return parts


def _upload(client: DemoClient, number: int) -> float:
    time.sleep(_PAUSE_S)
    started = time.monotonic()
    text = f"Door {number} opens with the code {started}. The code is written beside the door."
    document_id = client.upload(f"door-{number}.txt", text.encode())
    while client.document(document_id)["status"] != "ready":
        time.sleep(0.05)
    return time.monotonic() - started


def _ask(client: DemoClient, number: int) -> float:
    started = time.monotonic()
    client.ask(f"Which code opens door {number}?")
    return time.monotonic() - started


def _print(name: str, seconds: list[float]) -> None:
    median, low, high = statistics.median(seconds), min(seconds), max(seconds)
    print(f"{name}: median {median:.3f} s of {len(seconds)} ({low:.3f}-{high:.3f})")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
