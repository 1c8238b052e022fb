"""`polyplane costs`: what a thousand answers cost, with the arithmetic."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.exc import DBAPIError

from services.cli.admin_people import running
from services.cli.benchmark_results import NotResults, read_results
from services.cli.terminal import console, errors
from services.embedded.postgres import PLATFORM_DATABASE
from services.embedded.schema import owner_connection
from services.operations.costs import Tokens, Work, cost_lines, quota_line, shown
from services.operations.ledger_tokens import PlanTokens, tokens_by_plan
from services.operations.price_table import PricesWrong, PriceTable, Tier, read_prices

WRONG = 2
"""Exit code where what was given cannot be computed with."""

_UNIT = "CPU-ms/answer"
_PLACES = Decimal("1e-3")
_OLD_DAYS = 365

app = typer.Typer(add_completion=False)


class Wrong(Exception):
    """What was given cannot be computed with; the message says why."""


@dataclass(frozen=True, slots=True)
class _Case:
    """Whose answers are computed: their tokens, and their plan where the ledger names one."""

    name: str
    tokens: Tokens
    plan: PlanTokens | None = None


@app.command()
def costs(  # noqa: PLR0913 (each is an option)
    results: Annotated[
        Path | None, typer.Argument(help="Results of `make benchmark`, with its part answers.")
    ] = None,
    *,
    measurement: Annotated[
        str, typer.Option(help="Which figure of the results, in CPU-ms/answer.")
    ] = "answers.many.cpu_ms",
    cpu_ms: Annotated[
        list[str] | None,
        typer.Option(help="CPU-ms of an answer instead, as 119 or by part: gateway=15."),
    ] = None,
    prompt_tokens: Annotated[
        str | None, typer.Option(help="Of an answer on average; else by plan from the ledger.")
    ] = None,
    completion_tokens: Annotated[str | None, typer.Option(help="The same.")] = None,
    month: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m"], help="Which month of the ledger; the running one (UTC)."),
    ] = None,
    prices: Annotated[Path, typer.Option(help="YAML file of prices.")] = Path("infra/prices.yaml"),
    tier: Annotated[list[str] | None, typer.Option(help="Which tiers of it; all.")] = None,
) -> None:
    """Print what 1,000 answers cost, by tier and plan, line by line.

    Exit 2 if a figure is missing or wrong, 3 if the ledger is needed and the platform is not
    running.
    """
    try:
        table = read_prices(prices)
        tiers = _tiers(table, tier or list(table.tiers))
        spent = _cpu_ms(results, measurement, cpu_ms or [])
        cases = _cases(prompt_tokens, completion_tokens, month)
    except (Wrong, PricesWrong, NotResults) as error:
        errors.print(str(error), markup=False)
        raise typer.Exit(WRONG) from error
    _warn_of_age(tiers)
    for name, each in tiers.items():
        for case in cases:
            _print(f"{name}: {each.title}{case.name}", each, spent, case)


def _print(heading: str, tier: Tier, spent: Mapping[str, Decimal], case: _Case) -> None:
    console.print(heading, markup=False, style="bold")
    lines = cost_lines(tier, Work(spent, case.tokens))
    if case.plan is not None and case.plan.messages is not None:
        cost = lines[-1].result
        lines.append(quota_line(case.plan.messages, cost, case.plan.monthly_price_usd))
    for line in lines:
        console.print(shown(line), markup=False)
    console.print()


def _tiers(table: PriceTable, names: Sequence[str]) -> dict[str, Tier]:
    if unknown := [name for name in names if name not in table.tiers]:
        raise Wrong(f"There is no tier {', '.join(unknown)}; there are: {', '.join(table.tiers)}.")
    return {name: table.tiers[name] for name in names}


def _cpu_ms(results: Path | None, measurement: str, given: list[str]) -> dict[str, Decimal]:
    if (results is None) == (not given):
        raise Wrong("Give a file of results, as `make benchmark` writes it, or --cpu-ms.")
    if results is None:
        return dict(_given(given))
    found = read_results(results).measurements
    if measurement not in found or found[measurement].unit != _UNIT:
        have = ", ".join(name for name, each in found.items() if each.unit == _UNIT)
        has = f"It has: {have}." if have else f"It has no figure in {_UNIT}."
        raise Wrong(
            f"{results} has no {measurement} in {_UNIT}. {has} "
            "Measure it by `make benchmark PARTS=answers`, or give --cpu-ms."
        )
    median = Decimal(str(found[measurement].median)).quantize(_PLACES)
    return {f"processor ({measurement})": median}


def _given(options: Iterable[str]) -> Iterator[tuple[str, Decimal]]:
    seen = set[str]()
    for option in options:
        part, has_part, number = option.rpartition("=")
        name = f"processor ({part})" if has_part else "processor"
        if name in seen:
            raise Wrong(f"--cpu-ms {option}: that part was given before.")
        seen.add(name)
        yield name, _number("--cpu-ms", number)


def _cases(prompt: str | None, completion: str | None, month: datetime | None) -> list[_Case]:
    if (prompt is None) != (completion is None):
        raise Wrong("Give --prompt-tokens and --completion-tokens, or neither.")
    if prompt is None or completion is None:
        return _of_ledger((month or datetime.now(UTC)).date().replace(day=1))
    if month is not None:
        raise Wrong("--month is of the ledger, which is not read where tokens are given.")
    tokens = Tokens(_number("--prompt-tokens", prompt), _number("--completion-tokens", completion))
    return [_Case("", tokens)]


def _of_ledger(month: date) -> list[_Case]:
    try:
        with owner_connection(running().servers.owner_url(PLATFORM_DATABASE)) as connection:
            plans = tokens_by_plan(connection, month)
    except DBAPIError as error:
        raise Wrong(f"The database does not answer: {error.orig}") from error
    if not plans:
        raise Wrong(
            f"The ledger has no answers of {month:%Y-%m}: choose another --month, or give "
            "--prompt-tokens and --completion-tokens."
        )
    return [
        _Case(f", plan {each.plan} ({each.answers:,} answers of {month:%Y-%m})", each.tokens, each)
        for each in plans
    ]


def _number(option: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise Wrong(f"{option} {text}: that is no number.") from error
    if not number.is_finite() or number < 0:
        raise Wrong(f"{option} {text}: it has to be 0 or more.")
    return number


def _warn_of_age(tiers: Mapping[str, Tier]) -> None:
    oldest = min(day for tier in tiers.values() for day in tier.dates())
    if (datetime.now(UTC).date() - oldest).days > _OLD_DAYS:
        errors.print(f"The oldest of these prices is of {oldest}.", style="yellow", markup=False)
