"""What a thousand answers cost, line by line.

Decimal arithmetic: each line is one product and quotient, rounded once, half to even, to the ten
places that the ledger has; later lines go on with the figure that is shown. So every line can be
computed again from what stands in it, and a sum is exactly that of its lines.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

from services.operations.price_table import GpuPrices, HourlyItem, Tier, TokenPrices

ANSWERS = Decimal(1000)
_MS_AN_HOUR = Decimal(3_600_000)
_S_AN_HOUR = Decimal(3_600)
_MILLION = Decimal(1_000_000)
_PLACES = Decimal("1e-10")
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of an answer on average."""

    prompt: Decimal
    completion: Decimal


@dataclass(frozen=True, slots=True)
class Work:
    """What an answer takes on average: processor milliseconds by what takes them, and tokens."""

    cpu_ms: Mapping[str, Decimal]
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what it computes, how, what comes out, and in which unit."""

    what: str
    arithmetic: str
    result: Decimal
    unit: str


def cost_lines(tier: Tier, work: Work) -> list[Line]:
    """Compute a thousand answers of a tier; the last line is their cost in USD."""
    with localcontext(_EXACT):
        return _lines(tier, work)


def quota_line(answers: int, cost: Decimal, price_usd: Decimal) -> Line:
    """Compute what a plan's messages of a month cost at most, beside what the plan brings."""
    with localcontext(_EXACT):
        return _line(
            "a month's quota",
            f"{answers:,} / 1,000 x {_shown(cost)}; the plan brings {_shown(price_usd)}",
            answers * cost / ANSWERS,
            "USD",
        )


def shown(line: Line) -> str:
    """Return a line as it is printed."""
    return f"  {line.what:<42} {line.arithmetic} = {_shown(line.result)} {line.unit}"


def _lines(tier: Tier, work: Work) -> list[Line]:
    lines = _hour(tier.hourly, "an hour")
    hour = lines[-1].result
    capacity = _line(
        "processors",
        f"{_shown(tier.cores)} x {_shown(_MS_AN_HOUR)} x {_shown(tier.busy)} busy",
        tier.cores * _MS_AN_HOUR * tier.busy,
        "CPU-ms/h",
    )
    lines.append(capacity)
    costs = [_cpu(name, each, hour, capacity.result) for name, each in work.cpu_ms.items()]
    lines += costs
    for line in _generator(tier, work.tokens):
        lines.append(line)
        if line.unit == "USD":
            costs.append(line)
    return [*lines, _sum("1,000 answers", costs, "USD")]


def _hour(items: Iterable[HourlyItem], name: str) -> list[Line]:
    """Return what each item costs an hour, and their sum."""
    lines = []
    for each in items:
        over = f" / {_shown(each.hours)} h" if each.hours != 1 else ""
        arithmetic = f"{_shown(each.quantity)} {each.unit} x {_shown(each.usd)}{over}"
        price = each.quantity * each.usd / each.hours
        lines.append(_line(each.item, arithmetic, price, "USD/h"))
    return [*lines, _sum(name, lines, "USD/h")]


def _cpu(name: str, cpu_ms: Decimal, hour: Decimal, capacity: Decimal) -> Line:
    arithmetic = f"1,000 x {_shown(cpu_ms)} ms x {_shown(hour)} / {_shown(capacity)}"
    return _line(name, arithmetic, ANSWERS * cpu_ms * hour / capacity, "USD")


def _generator(tier: Tier, tokens: Tokens) -> Iterator[Line]:
    kinds = (("prompt", tokens.prompt), ("completion", tokens.completion))
    if isinstance(tier.generator, TokenPrices):
        prices = (tier.generator.prompt_usd, tier.generator.completion_usd)
        for (kind, count), usd in zip(kinds, prices, strict=True):
            arithmetic = f"1,000 x {_shown(count)} x {_shown(usd)} / {_shown(_MILLION)}"
            yield _line(f"{kind} tokens", arithmetic, ANSWERS * count * usd / _MILLION, "USD")
    elif isinstance(tier.generator, GpuPrices):
        yield from _gpu(tier.generator, kinds)


def _gpu(gpu: GpuPrices, kinds: Sequence[tuple[str, Decimal]]) -> Iterator[Line]:
    hourly = _hour(gpu.hourly, "an hour of the model")
    yield from hourly
    rates = (gpu.prompt_tokens_per_s, gpu.completion_tokens_per_s)
    hour = hourly[-1].result
    for (kind, count), rate in zip(kinds, rates, strict=True):
        busy = f"({_shown(rate)}/s x {_shown(_S_AN_HOUR)} x {_shown(gpu.busy)} busy)"
        cost = ANSWERS * count * hour / (rate * _S_AN_HOUR * gpu.busy)
        arithmetic = f"1,000 x {_shown(count)} x {_shown(hour)} / {busy}"
        yield _line(f"{kind} tokens", arithmetic, cost, "USD")


def _sum(what: str, lines: Sequence[Line], unit: str) -> Line:
    total = sum((line.result for line in lines), Decimal(0))
    return _line(what, " + ".join(_shown(line.result) for line in lines), total, unit)


def _line(what: str, arithmetic: str, result: Decimal, unit: str) -> Line:
    return Line(what, arithmetic, result.quantize(_PLACES), unit)


def _shown(number: Decimal) -> str:
    """Return all digits of a number, without zeros that say nothing."""
    text = f"{number:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
