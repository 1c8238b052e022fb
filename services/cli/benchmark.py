"""`polyplane benchmark`: what `make benchmark` measured, compared."""

from math import isinf
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from services.cli.benchmark_comparison import Comparison, Verdict, compare_all
from services.cli.benchmark_results import NotResults, Results, figure, read_results
from services.cli.terminal import console, errors

NOT_COMPARABLE = 2
"""Exit code where there is nothing to compare."""

_COLOURS: dict[Verdict, str] = {"better": "green", "worse": "red", "same": "dim", "open": "yellow"}

_WIDTH = 120
"""Names are long, and not to be cut where the output is no terminal."""

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def _root() -> None:
    """Work with the results of benchmarks."""


@app.command()
def compare(
    earlier: Annotated[Path, typer.Argument(help="Results of `make benchmark`.")],
    later: Annotated[Path, typer.Argument(help="Later ones.")],
    tolerance: Annotated[
        float,
        typer.Option(help="The share by which two runs of the same code may differ.", min=0, max=1),
    ] = 0.05,
) -> None:
    """Print later figures as multiples of earlier ones; exit 1 if one is worse for certain, else 0.

    Worse for certain: the whole 95 % interval of the ratio lies beyond the tolerance. Exit 2 if a
    file is none of results, or they have no measurement in common.
    """
    try:
        before, after = read_results(earlier), read_results(later)
    except NotResults as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(NOT_COMPARABLE) from error
    compared = list(compare_all(before.measurements, after.measurements, tolerance=tolerance))
    if not compared:
        errors.print(f"{earlier} and {later} have no measurement in common.", markup=False)
        raise typer.Exit(NOT_COMPARABLE)
    _warn(before, after)
    Console(highlight=False, width=max(console.width, _WIDTH)).print(_table(compared))
    worse = sum(one.verdict == "worse" for one in compared)
    console.print(f"{len(compared)} compared, {worse} worse for certain")
    if worse:
        raise typer.Exit(1)


def _warn(before: Results, after: Results) -> None:
    """Say what makes a comparison unfair, and what was not compared."""
    for name in before.parts.keys() & after.parts.keys():
        machines = before.parts[name].machine, after.parts[name].machine
        for key in sorted(machines[0].keys() & machines[1].keys()):
            if machines[0][key] != machines[1][key]:
                text = f"{name}: {key} was {machines[0][key]!r} and is {machines[1][key]!r}"
                errors.print(text, style="yellow", markup=False)
    _warn_of_missing("earlier", before, after)
    _warn_of_missing("later", after, before)


def _warn_of_missing(which: str, here: Results, there: Results) -> None:
    others = {(each.name, each.unit) for each in there.measurements.values()}
    alone = [
        each.name for each in here.measurements.values() if (each.name, each.unit) not in others
    ]
    if alone:
        errors.print(
            f"only in the {which} results: {', '.join(alone)}", style="yellow", markup=False
        )


def _table(compared: list[Comparison]) -> Table:
    table = Table("measurement", "unit", "earlier", "later", "ratio", "95 % interval", "", box=None)
    for one in compared:
        interval = "too few samples" if isinf(one.high) else f"{one.low:.3f} to {one.high:.3f}"
        table.add_row(
            one.later.name,
            one.later.unit,
            figure(one.earlier.median),
            figure(one.later.median),
            f"{one.ratio:.3f}",
            interval,
            f"[{_COLOURS[one.verdict]}]{one.verdict}[/]",
        )
    return table
