"""wrk (https://github.com/wg/wrk) as the load generator: one thread, its own script and report."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = r"""
local requests, at = {}, 0
init = function(args)
    for line in io.lines(args[1]) do
        local token, path, body = line:match("^(%S*) (%S+) ?(.*)$")
        local headers = {}
        if token ~= "" then headers["authorization"] = "Bearer " .. token end
        if body ~= "" then headers["content-type"] = "application/json" end
        requests[#requests + 1] = wrk.format(body == "" and "GET" or "POST", path, headers,
            body ~= "" and body or nil)
    end
end
request = function()
    at = at % #requests + 1
    return requests[at]
end
done = function(summary, latency, requests)
    io.stderr:write(string.format(
        '{"requests": %d, "us": %d, "p50": %d, "p95": %d, "p99": %d,' ..
        ' "refused": %d, "broken": %d}\n',
        summary.requests, summary.duration, latency:percentile(50),
        latency:percentile(95), latency:percentile(99), summary.errors.status,
        summary.errors.connect + summary.errors.read + summary.errors.write
        + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw; times in milliseconds. `failed` answers have another status than 2xx or 3xx."""

    requests: int
    seconds: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    failed: int

    @property
    def requests_per_s(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `body` is JSON on one line, or empty for a GET."""

    path: str
    token: str = ""
    body: str = ""


def write_asks(folder: Path, name: str, asks: list[Ask]) -> Path:
    """Write requests that wrk sends in turn, and return the file."""
    path = folder / f"{name}.requests"
    path.write_text("".join(f"{a.token} {a.path} {a.body}\n" for a in asks), "utf-8")
    return path


def drive(url: str, asks: Path, *, connections: int, seconds: int) -> Load:
    """Send the requests of a file over so many connections, each as soon as the last is answered.

    Raises:
        FileNotFoundError: wrk is not installed.
        subprocess.CalledProcessError: It failed.
    """
    script = asks.with_name("wrk.lua")
    script.write_text(_SCRIPT, "utf-8")
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
    command += ["-s", str(script), url, "--", str(asks)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    told = json.loads(ended.stderr.strip().splitlines()[-1])
    return Load(
        requests=told["requests"],
        seconds=told["us"] / 1e6,
        p50_ms=told["p50"] / 1e3,
        p95_ms=told["p95"] / 1e3,
        p99_ms=told["p99"] / 1e3,
        failed=told["refused"] + told["broken"],
    )
