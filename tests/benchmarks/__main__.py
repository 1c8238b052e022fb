"""Measure, print, and keep the results: what `make benchmark` runs.

    PARTS=gateway,chat_log ROUNDS=7 python -m tests.benchmarks [FILE]

Measures the parts named, else all, and replaces them in FILE, `tests/benchmarks/latest.json` if not
told otherwise; other parts stay in it as they were measured last. `tests.benchmarks.plots`
draws them.
"""

import os
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from services.cli.benchmark_results import (
    NotResults,
    PartResults,
    Results,
    read_results,
    write_results,
)
from tests.benchmarks import machine, parts
from tests.benchmarks.pinning import Cores, pin
from tests.benchmarks.records import Conditions, table

_LATEST = Path(__file__).parent / "latest.json"
_ROUNDS = 7

console = Console(highlight=False, width=120)


def main(path: Path) -> None:
    """Measure part after part; what is measured is kept, whatever happens to another.

    Raises:
        SystemExit: A part is unknown, or failed, or the file holds something else.
    """
    cores = Cores.of_this_process()
    conditions = Conditions(cores, int(os.environ.get("ROUNDS", _ROUNDS)))
    try:
        names = parts.chosen(os.environ.get("PARTS", ""))
        results = read_results(path) if path.exists() else Results(1, {})
    except (parts.NoSuchPart, NotResults) as error:
        raise SystemExit(str(error)) from error
    commit = _commit()
    failed = []
    for name in names:
        try:
            measured = _measure(name, conditions, commit)
        except (Exception, SystemExit):  # which servers and their checks raise
            traceback.print_exc()
            failed.append(name)
            continue
        finally:
            pin(0, cores.all)  # a part may have pinned this process
        results = replace(results, parts={**results.parts, name: measured})
        write_results(path, results)
        console.print(f"\n[bold]{name}[/], {measured.wall_s:.0f} s", table(measured), sep="\n")
    for key, value in machine.describe().items():
        console.print(f"{key}: {value}", markup=False)
    if failed:
        raise SystemExit(f"Not measured, see above: {', '.join(failed)}.")


def _measure(name: str, conditions: Conditions, commit: str) -> PartResults:
    started, load_average = time.monotonic(), os.getloadavg()[0]
    measured = PartResults(
        measurements=tuple(parts.measure(name, conditions)),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        wall_s=round(time.monotonic() - started, 1),
        load_average=round(load_average, 2),
        machine=machine.describe(),
    )
    for contradiction in measured.contradictions():
        raise NotResults(contradiction)
    return measured


def _commit() -> str:
    """Return the code's short commit, with `+` where it was changed; empty outside a repository."""
    here = ["git", "-C", str(Path(__file__).parents[2])]
    asked = subprocess.run([*here, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    if asked.returncode != 0:
        return ""
    changed = subprocess.run([*here, "diff", "--quiet", "HEAD", "--", "services", "planes"])
    return asked.stdout.strip() + ("+" if changed.returncode else "")


if __name__ == "__main__":
    if any(argument.startswith("-") for argument in sys.argv[1:]):
        raise SystemExit("usage: PARTS=name,... ROUNDS=7 python -m tests.benchmarks [FILE]")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else _LATEST)
