"""Measure one small upload until it is ready, and one question after the other.

    python -m tests.evaluation.latency http://127.0.0.1:8000

The pauses let the platform fall idle between uploads.
"""

import statistics
import sys
import time

import httpx

from services.cli.demo_client import DemoClient

_UPLOADS = 7
_PAUSE_S = 12.0
_QUESTIONS = 30


def main(address: str) -> None:
    """Print medians and ranges."""
    with httpx.Client(base_url=address, timeout=60) as http:
        client = DemoClient(http)
        client.register()
        uploads = [_upload(client, number) for number in range(_UPLOADS)]
        answers = [_ask(client, number % _UPLOADS) for number in range(_QUESTIONS)]
    _print("upload to ready", uploads)
    _print("answer", answers)


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
    main(sys.argv[1])
