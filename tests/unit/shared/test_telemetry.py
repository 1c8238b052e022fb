"""What processes write to their logs."""

import subprocess
import sys

_ASK = """
import httpx
from planes.shared.telemetry import configure_logging
configure_logging("test")
client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)))
client.post("https://example.com/hooks/secret?token=secret")
import logging
logging.getLogger("other").info("told")
"""


def test_addresses_that_are_asked_are_not_logged_because_they_hold_secrets() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _ASK], capture_output=True, text=True, check=True, timeout=60
    )
    assert "told" in ran.stderr
    assert "secret" not in ran.stderr
