"""Drive the running platform with many people: what `make load-test` runs.

    USERS=1000 THINK_S=60 DURATION=5m POLYPLANE_HOME=… python -m tests.load

Signs people up, each with a tenant and a document, has locust let them work, and compares their
answers with usage, ledger and chat log. They arrive one by one within five minutes, at least one a
second, and DURATION begins when all are there. Faster they would be a test of the sign-in alone: a
password costs a busy core a sixth of a second, so that two cores take twelve a second and refuse
the others. `LOCUST_UI=1` serves locust's page instead of starting by
itself; Ctrl-C ends it, and the comparison follows. Exits with 1 where more than one in 10,000
requests failed or the books differ.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from services.embedded.home import locate
from services.embedded.state import read_state
from tests.benchmarks import machine
from tests.e2e.conftest import RunningPlatform
from tests.e2e.drill.records import Records
from tests.load.accounts import read_accounts
from tests.load.answers import AnswerFile
from tests.load.people import Person, new_people, write_people
from tests.load.plots import draw
from tests.load.processors import Look, Processors
from tests.load.summary import FIRST_TEXT, Summary, cpu_ms_per_request, read_causes, read_routes

_RESULTS = Path(__file__).parent / "results"
_ARRIVAL_S = 300  # of all, where they are many
_STOP_S = 90  # for the last answers
_SHOWN = 20

console = Console(highlight=False, width=120)


def main() -> int:
    """Prepare, drive, compare, draw; return the exit code.

    Raises:
        SystemExit: No platform runs.
    """
    state = read_state(locate())
    if state is None:
        raise SystemExit("Polyplane is not running. Start it with `make up`.")
    users, think_s = int(os.environ.get("USERS", "1000")), float(os.environ.get("THINK_S", "60"))
    duration_s = _seconds(os.environ.get("DURATION", "5m"))
    folder = _RESULTS / str(users)
    _empty(folder)
    console.print(f"Signing up {users} people at {state.gateway_url}")
    people = asyncio.run(new_people(state.gateway_url, users))
    write_people(folder / "people.jsonl", people)
    looks = _drive(state.gateway_url, folder, users, think_s, duration_s=duration_s)
    console.print("Comparing answers, usage, ledger and chat log")
    summary = _summary(state.gateway_url, folder, people, looks, think_s)
    summary.write(folder / "summary.json")
    draw(folder, folder / "locust_stats_history.csv", summary.routes, looks)
    _print(summary, folder)
    return 0 if summary.is_good else 1


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()


def _drive(
    base_url: str, folder: Path, users: int, think_s: float, *, duration_s: int
) -> list[Look]:
    """Run locust until so long after the last arrival; look at the processors meanwhile."""
    a_second = max(1.0, users / _ARRIVAL_S)
    command = [
        *(sys.executable, "-m", "locust", "--locustfile", "tests/load/locustfile.py"),
        *("--host", base_url, "--users", str(users), "--spawn-rate", str(a_second)),
        *("--stop-timeout", str(_STOP_S), "--only-summary", "--html", str(folder / "report.html")),
        *("--csv", str(folder / "locust"), "--csv-full-history", "--exit-code-on-error", "0"),
        *("--json-file", str(folder / "locust")),
    ]
    if os.environ.get("LOCUST_UI") != "1":
        command += ["--headless", "--run-time", f"{users / a_second + duration_s:.0f}s"]
    environment = {**os.environ, "LOAD_FOLDER": str(folder), "LOAD_THINK_S": str(think_s)}
    locust = subprocess.Popen(command, env=environment)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends locust, not us
    try:
        with Processors(locate().root, locust.pid) as processors:
            locust.wait()
    finally:
        signal.signal(signal.SIGINT, before)
    if locust.returncode != 0:
        raise SystemExit(f"locust failed with {locust.returncode}")
    return processors.looks


def _seconds(duration: str) -> int:
    """Read a duration as locust writes it: `5m`, `1h30m`, `90s`, `90`.

    Raises:
        SystemExit: It is none.
    """
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", duration)
    if not duration or parts is None:
        raise SystemExit(f"DURATION={duration} is no duration such as 5m, 1h30m or 90s")
    hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return 3600 * hours + 60 * minutes + seconds


def _summary(
    base_url: str, folder: Path, people: list[Person], looks: list[Look], think_s: float
) -> Summary:
    seconds = looks[-1].at - looks[0].at
    routes = list(read_routes(folder / "locust.json", seconds=seconds))
    counted = [route for route in routes if route.kind != FIRST_TEXT]
    requests = sum(route.requests for route in counted)
    failures = sum(route.failures for route in counted)
    received = list(AnswerFile(folder / "answers.jsonl").read())
    records = Records(RunningPlatform(locate().root, dict(os.environ)))
    accounts = read_accounts(records, base_url, people, received)
    return Summary(
        users=len(people),
        think_s=think_s,
        requests=requests,
        failures=failures,
        errors=failures / max(1, requests),
        requests_per_s=sum(route.requests_per_s for route in counted),
        routes=routes,
        cpu_ms_per_request=cpu_ms_per_request(looks, requests),
        answers=len(received),
        differences=[
            f"tenant {tenant_id}: {difference}"
            for tenant_id, of_tenant in accounts.items()
            for difference in of_tenant.differences()
        ],
        causes=read_causes(folder / "locust_failures.csv"),
        machine=machine.describe(),
    )


def _print(summary: Summary, folder: Path) -> None:
    table = Table("", "route", "requests", "failed", "/s", "p50 ms", "p95 ms", "p99 ms", box=None)
    for each in summary.routes:
        figures = (each.requests_per_s, each.p50_ms, each.p95_ms, each.p99_ms)
        told = (f"{figures[0]:.1f}", *(f"{figure:,.0f}" for figure in figures[1:]))
        table.add_row(each.kind, each.name, str(each.requests), str(each.failures), *told)
    console.print(table)
    cost = ", ".join(f"{kind} {ms:.1f}" for kind, ms in summary.cpu_ms_per_request.items())
    console.print(f"CPU-ms a request: {cost}", markup=False)
    console.print(
        f"{summary.users} people, {summary.requests} requests, {summary.requests_per_s:.1f}/s, "
        f"{summary.failures} failed ({summary.errors:.3%})"
    )
    for cause, count in summary.causes.items():
        console.print(f"{count} x {cause}", markup=False, style="red")
    for difference in summary.differences[:_SHOWN]:
        console.print(difference, markup=False, style="red")
    console.print(
        f"{summary.answers} answers; differences to usage, ledger and chat log: "
        f"{len(summary.differences)}"
    )
    console.print(f"Report, summary and plots: {folder}")


if __name__ == "__main__":
    sys.exit(main())
