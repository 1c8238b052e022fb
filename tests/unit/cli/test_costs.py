"""`polyplane costs`: every line can be computed again, and wrong files and figures are named."""

import re
from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from services.cli.benchmark_results import Measurement, PartResults, Results, write_results
from services.cli.main import app

EXAMPLES = Path(__file__).parents[3] / "infra/prices.yaml"
LISTED = "source: https://example.com/prices, date: 2026-11-01"
PRICES = f"""
tiers:
  node:
    title: one node
    cores: 4
    busy: 0.5
    hourly:
      - {{item: node, quantity: 1, unit: node, usd: 0.2, {LISTED}}}
      - {{item: disk, quantity: 100, unit: GB, usd: 0.073, hours: 730, {LISTED}}}
  hosted:
    title: a model by the token
    cores: 2
    busy: 1
    hourly:
      - {{item: node, quantity: 1, unit: node, usd: 0.72, {LISTED}}}
    generator: {{kind: tokens, title: a model, prompt_usd: 0.4, completion_usd: 1.6, {LISTED}}}
  card:
    title: a card
    cores: 2
    busy: 1
    hourly:
      - {{item: node, quantity: 1, unit: node, usd: 0.72, {LISTED}}}
    generator:
      kind: gpu
      title: a model
      prompt_tokens_per_s: 4000
      completion_tokens_per_s: 500
      busy: 0.5
      hourly:
        - {{item: card, quantity: 2, unit: cards, usd: 0.9, {LISTED}}}
"""
TOKENS = ("--prompt-tokens", "1500", "--completion-tokens", "200")


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(PRICES)
    return path


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["costs", *arguments])
    return result.exit_code, result.output


def told(output: str) -> str:
    return " ".join(output.split())


def computed(output: str) -> Iterator[tuple[str, Fraction, Decimal]]:
    """Yield each line's name, its arithmetic computed anew, and the figure that it shows."""
    for line in output.splitlines():
        found = re.fullmatch(r"  (.{42}) (.*) = ([\d.,]+) (USD/h|USD|CPU-ms/h)", line)
        if not found:
            continue
        sides = re.sub(r"[A-Za-z][\w/]*|,|/s", lambda m: "*" if m[0] == "x" else "", found[2])
        value = eval(re.sub(r"([\d.]+)", r"Fraction('\1')", sides), {"Fraction": Fraction})  # noqa: S307
        yield found[1].strip(), value, Decimal(found[3].replace(",", ""))


def results(path: Path, name: str, unit: str, *samples: float) -> Path:
    measured = (Measurement(name, unit, samples, "lower"),)
    part = PartResults("2026-11-01T00:00:00+00:00", "abc", 1.0, 0.1, {}, measured)
    write_results(path, Results(1, {"answers": part}))
    return path


def test_what_processors_cost_is_their_share_of_the_hour(prices: Path) -> None:
    code, output = run("--cpu-ms", "120", *TOKENS, "--prices", str(prices), "--tier", "node")
    assert code == 0
    assert [line.rpartition("  ")[2] for line in output.splitlines()[1:7]] == [
        "1 node x 0.2 = 0.2 USD/h",
        "100 GB x 0.073 / 730 h = 0.01 USD/h",
        "0.2 + 0.01 = 0.21 USD/h",
        "4 x 3,600,000 x 0.5 busy = 7,200,000 CPU-ms/h",
        "1,000 x 120 ms x 0.21 / 7,200,000 = 0.0035 USD",
        "0.0035 = 0.0035 USD",
    ]


def test_a_hosted_model_costs_its_tokens(prices: Path) -> None:
    _, output = run("--cpu-ms", "100", *TOKENS, "--prices", str(prices), "--tier", "hosted")
    assert "1,000 x 1,500 x 0.4 / 1,000,000 = 0.6 USD" in output
    assert "1,000 x 200 x 1.6 / 1,000,000 = 0.32 USD" in output
    assert "0.01 + 0.6 + 0.32 = 0.93 USD" in output


def test_a_card_costs_the_time_that_it_takes_for_the_tokens(prices: Path) -> None:
    _, output = run("--cpu-ms", "100", *TOKENS, "--prices", str(prices), "--tier", "card")
    assert "1,000 x 1,500 x 1.8 / (4,000/s x 3,600 x 0.5 busy) = 0.375 USD" in output
    assert "1,000 x 200 x 1.8 / (500/s x 3,600 x 0.5 busy) = 0.4 USD" in output
    assert "0.01 + 0.375 + 0.4 = 0.785 USD" in output


def test_every_line_is_exact_to_ten_places_by_the_figures_that_it_shows() -> None:
    arguments = ("--cpu-ms", "gateway=15.3", "--cpu-ms", "embedder=47.007")
    code, output = run(*arguments, "--prompt-tokens", "1234.567", "--completion-tokens", "98.7",
                       "--prices", str(EXAMPLES))  # fmt: skip
    assert code == 0
    lines = list(computed(output))
    assert len(lines) > 30
    for name, value, figure in lines:
        rounded = Decimal(value.numerator) / Decimal(value.denominator)
        assert rounded.quantize(Decimal("1e-10"), ROUND_HALF_EVEN) == figure, name


def test_parts_of_the_processor_time_are_lines_of_their_own(prices: Path) -> None:
    arguments = ("--prices", str(prices), "--tier", "node", *TOKENS)
    _, output = run("--cpu-ms", "gateway=48", "--cpu-ms", "embedder=72", *arguments)
    assert "processor (gateway)" in output
    assert "0.0014 + 0.0021 = 0.0035 USD" in output
    code, output = run("--cpu-ms", "gateway=48", "--cpu-ms", "gateway=72", *arguments)
    assert (code, told(output)) == (2, "--cpu-ms gateway=72: that part was given before.")


def test_processor_time_is_the_median_of_results(tmp_path: Path, prices: Path) -> None:
    path = results(tmp_path / "a.json", "answers.many.cpu_ms", "CPU-ms/answer", 90, 120, 130)
    code, output = run(str(path), *TOKENS, "--prices", str(prices), "--tier", "node")
    assert code == 0
    assert "1,000 x 120 ms x 0.21 / 7,200,000 = 0.0035 USD" in output


def test_results_without_the_figure_are_refused_and_what_they_have_is_named(
    tmp_path: Path, prices: Path
) -> None:
    arguments = (*TOKENS, "--prices", str(prices))
    path = results(tmp_path / "a.json", "answers.one.cpu_ms", "CPU-ms/answer", 90)
    code, output = run(str(path), *arguments)
    assert code == 2
    assert "a.json has no answers.many.cpu_ms in CPU-ms/answer. It has: answers.one.cpu_ms." in (
        told(output)
    )
    assert run(str(path), "--measurement", "answers.one.cpu_ms", *arguments)[0] == 0
    path = results(tmp_path / "b.json", "answers.many.cpu_ms", "s", 90)
    assert "It has no figure in CPU-ms/answer." in told(run(str(path), *arguments)[1])
    assert "c.json cannot be read" in told(run(str(tmp_path / "c.json"), *arguments)[1])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (TOKENS, "Give a file of results, as `make benchmark` writes it, or --cpu-ms."),
        (("a.json", "--cpu-ms", "1", *TOKENS), "Give a file of results"),
        (("--cpu-ms", "much", *TOKENS), "--cpu-ms much: that is no number."),
        (("--cpu-ms", "-1", *TOKENS), "--cpu-ms -1: it has to be 0 or more."),
        (("--cpu-ms", "NaN", *TOKENS), "it has to be 0 or more"),
        (("--cpu-ms", "1", "--prompt-tokens", "1"), "Give --prompt-tokens and --completion-tokens"),
        (("--cpu-ms", "1", *TOKENS, "--month", "2026-10"), "--month is of the ledger"),
        (("--cpu-ms", "1", *TOKENS, "--tier", "moon"), "no tier moon; there are: node, hosted"),
    ],
)
def test_options_that_cannot_be_computed_with_are_named(
    prices: Path, arguments: tuple[str, ...], said: str
) -> None:
    code, output = run(*arguments, "--prices", str(prices))
    assert code == 2
    assert said in told(output)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("usd: 0.2,", "", "tiers.node.hourly[0].usd: Field required"),
        ("usd: 0.2,", "usd: -1,", "tiers.node.hourly[0].usd: Input should be greater than"),
        ("usd: 0.2,", "usd: .nan,", "is no YAML: .nan is no number"),
        ("usd: 0.2,", "usd: cheap,", "tiers.node.hourly[0].usd: Input should be a valid decimal"),
        ("usd: 0.2,", "usd: 0.2, eur: 1,", "hourly[0].eur: Extra inputs are not permitted"),
        ("usd: 0.2,", "usd: 0.2, usd: 2,", "is no YAML: usd stands twice"),
        ("date: 2026-11-01", "date: 2026-02-31", "is no YAML: day is out of range"),
        ("date: 2026-11-01", "date: soon", "tiers.node.hourly[0].date: Input should be a valid"),
        ("https://", "", "tiers.node.hourly[0].source: Input should be a valid URL"),
        ("busy: 0.5", "busy: 1.5", "tiers.node.busy: Input should be less than or equal to 1"),
        ("kind: gpu", "kind: tea", "tiers.card.generator: Input tag 'tea' found"),
        ("tiers:", "tears:", "tiers: Field required"),
        ("tiers:", "- tiers", "is no YAML"),
    ],
)
def test_a_wrong_table_of_prices_is_refused_with_the_place(
    prices: Path, old: str, new: str, said: str
) -> None:
    prices.write_text(PRICES.replace(old, new, 1))
    code, output = run("--cpu-ms", "1", *TOKENS, "--prices", str(prices))
    assert code == 2
    assert said in told(output)


def test_a_table_that_is_not_there_and_an_empty_one_are_named(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    code, output = run("--cpu-ms", "1", *TOKENS, "--prices", str(path))
    assert (code, "prices.yaml cannot be read: No such file" in told(output)) == (2, True)
    path.write_text("")
    code, output = run("--cpu-ms", "1", *TOKENS, "--prices", str(path))
    assert (code, "prices.yaml is no table of prices: the file:" in told(output)) == (2, True)


def test_old_prices_are_told(prices: Path) -> None:
    prices.write_text(PRICES.replace("2026-11-01", "2019-11-01", 1))
    code, output = run("--cpu-ms", "1", *TOKENS, "--prices", str(prices))
    assert code == 0
    assert "The oldest of these prices is of 2019-11-01." in output


def test_without_tokens_the_ledger_is_asked_and_needs_a_running_platform(
    tmp_path: Path, prices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POLYPLANE_HOME", str(tmp_path / "home"))
    code, output = run("--cpu-ms", "1", "--prices", str(prices))
    assert code == 3
    assert "not running" in told(output)


def test_the_examples_name_a_source_and_a_date_for_each_price() -> None:
    listed = 0
    for tier in yaml.safe_load(EXAMPLES.read_text())["tiers"].values():
        generator = tier.get("generator", {"hourly": []})
        for each in (*tier["hourly"], *generator.get("hourly", [generator])):
            assert each["source"].startswith("https://")
            assert each["date"]
            listed += 1
    assert listed > 15
