"""Small plots for people who look at a run: Markdown tables with bars."""

from collections.abc import Mapping

_BAR_CHARS = 20


def bar(share: float) -> str:
    """Return a bar for a share of 0 to 1."""
    return "█" * round(share * _BAR_CHARS)


def bar_table(label: str, counts: Mapping[str, int]) -> str:
    """Return counts as a table with bars, the largest first."""
    total = max(1, sum(counts.values()))
    rows = [f"| {label} | number | |", "|---|--:|---|"]
    for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rows.append(f"| {name or '-'} | {number:,} | {bar(number / total)} |")
    return "\n".join(rows)
