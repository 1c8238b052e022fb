"""Drawings of what the benchmarks measured, as SVG.

    python -m tests.benchmarks.plots [FOLDER]

Draws what `latest.json` in FOLDER has, `tests/benchmarks` if not told otherwise. It needs the extra
`load`, for matplotlib.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter

from services.cli.benchmark_results import Measurement, Results, read_results

_ROW_INCHES = 0.24
_STEPS = ("hello", "jwt", "limits", "book", "chat", "bare", "plain")
_PROCESSES = ("gateway", "postgres", "redis", "upstream")


def draw(results: Results, folder: Path) -> None:
    """Write `ratios.svg`, and `ladder.svg` where the gateway was measured."""
    _ratios(results.measurements).savefig(folder / "ratios.svg")
    if "gateway" in results.parts:
        _ladder(results.measurements).savefig(folder / "ladder.svg")


def _ratios(by_name: dict[str, Measurement]) -> Figure:
    """Draw each round as a dot, beside the goal and beside the limit; to the right is better."""
    rows = [each for each in by_name.values() if each.goal is not None or each.beside]
    figure = Figure((11.0, 1.5 + _ROW_INCHES * len(rows)), layout="constrained")
    goals, limits = figure.subplots(1, 2, sharey=True)
    for place, each in enumerate(rows):
        if each.goal is not None:
            _dots(goals, place, [sample / each.goal for sample in each.samples], each)
        if each.beside:
            limit = by_name[each.beside[0]].median
            _dots(limits, place, [sample / limit for sample in each.samples], each)
    goals.set_yticks(range(len(rows)), [each.name for each in rows], fontsize="small")
    goals.set_ylim(len(rows) - 0.5, -0.5)
    for axes, title in ((goals, "beside the goal"), (limits, "beside the limit, same run")):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.axvline(1, color="black", linewidth=0.8)
        axes.grid(axis="both", alpha=0.3)
        axes.set_title(f"{title}: right of 1 is better", fontsize="medium")
    return figure


def _dots(axes: Axes, place: int, ratios: Sequence[float], each: Measurement) -> None:
    good = [ratio if each.better == "higher" else 1 / ratio for ratio in ratios]
    color = "tab:green" if median(good) >= 1 else "tab:orange"
    axes.plot(good, [place] * len(good), "o", color=color, markersize=4, alpha=0.7)


def _ladder(by_name: dict[str, Measurement]) -> Figure:
    """Draw what a request costs each process, step by step."""
    figure = Figure((9.0, 4.0), layout="constrained")
    axes = figure.subplots()
    steps = [step for step in _STEPS if f"gateway.{step}.cpu.gateway" in by_name]
    ends = [0.0] * len(steps)
    for process in _PROCESSES:
        found = [by_name.get(f"gateway.{step}.cpu.{process}") for step in steps]
        costs = [0.0 if each is None else each.median for each in found]
        axes.barh(steps, costs, left=ends, label=process)
        ends = [end + cost for end, cost in zip(ends, costs, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("processor microseconds a request, median")
    axes.legend()
    return figure


if __name__ == "__main__":
    here = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    draw(read_results(here / "latest.json"), here)
