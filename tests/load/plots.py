"""Drawings of a load test, as SVG."""

import csv
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib import colormaps
from matplotlib.figure import Figure

from tests.benchmarks.cpu import used_s
from tests.load.processors import Look
from tests.load.summary import FIRST_TEXT, Route

_SIZE = (9.0, 4.5)


def draw(folder: Path, history: Path, routes: Sequence[Route], looks: Sequence[Look]) -> None:
    """Write latencies and errors by route, and requests and processors over time."""
    _latencies(routes).savefig(folder / "latency.svg")
    _errors(routes).savefig(folder / "errors.svg")
    _over_time(history).savefig(folder / "requests.svg")
    _processors(looks, sum(route.requests for route in routes if route.kind != FIRST_TEXT)).savefig(
        folder / "processors.svg"
    )


def _latencies(routes: Sequence[Route]) -> Figure:
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    places = range(len(routes))
    for offset, name, values in (
        (-0.25, "p50", [route.p50_ms for route in routes]),
        (0.0, "p95", [route.p95_ms for route in routes]),
        (0.25, "p99", [route.p99_ms for route in routes]),
    ):
        axes.barh([place + offset for place in places], values, 0.25, label=name)
    axes.set_yticks(list(places), [_label(route) for route in routes])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("ms")
    axes.legend()
    return figure


def _errors(routes: Sequence[Route]) -> Figure:
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    shares = [100 * route.failures / max(1, route.requests) for route in routes]
    axes.barh([_label(route) for route in routes], shares)
    axes.invert_yaxis()
    axes.set_xlim(0, max(0.1, *shares))
    axes.set_xlabel("failed, % of requests")
    return figure


def _over_time(history: Path) -> Figure:
    with history.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["Name"] == "Aggregated"]
    seconds = [int(row["Timestamp"]) - int(rows[0]["Timestamp"]) for row in rows]
    figure = Figure(_SIZE, layout="constrained")
    rates, users = figure.subplots(2, sharex=True)
    rates.plot(seconds, [float(row["Requests/s"]) for row in rows], label="requests/s")
    rates.plot(seconds, [float(row["Failures/s"]) for row in rows], label="failures/s")
    rates.legend()
    users.plot(seconds, [int(row["User Count"]) for row in rows], label="people")
    users.legend()
    users.set_xlabel("s")
    return figure


def _processors(looks: Sequence[Look], requests: int) -> Figure:
    """Draw how many processors each kind of process kept busy, and what a request cost it."""
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    seconds = [look.at - looks[0].at for look in looks[1:]]
    total = looks[-1].cpu_s
    kinds = sorted(total, key=lambda kind: -total[kind])
    spans = list(pairwise(looks))
    busy = [
        [used_s(a.cpu_s, b.cpu_s).get(kind, 0.0) / (b.at - a.at) for a, b in spans]
        for kind in kinds
    ]
    labels = [
        f"{kind}: {1e3 * total[kind] / max(1, requests):.1f} CPU-ms a request" for kind in kinds
    ]
    colors = [colormaps["tab20"](number) for number in range(len(kinds))]
    axes.stackplot(seconds, busy, labels=labels, colors=colors)
    axes.set_xlabel("s")
    axes.set_ylabel("processors busy")
    figure.legend(loc="outside right upper", fontsize="small", reverse=True)
    return figure


def _label(route: Route) -> str:
    return f"{route.kind} {route.name}"
