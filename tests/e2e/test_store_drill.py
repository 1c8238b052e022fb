"""kill -9 and SIGSTOP of every store under chat and ingestion: nothing acknowledged is lost.

ROUNDS and SEED choose how many rounds and which; each strikes every store once. `make fault-drill`
runs twenty.
"""

import os
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import EXACT, RunningPlatform
from tests.e2e.drill import store_rounds, strikes
from tests.e2e.drill.rounds import Drill
from tests.e2e.drill.store_rounds import StoreOutcome

_SEED = int(os.environ.get("SEED", "105"))
_ROUNDS = int(os.environ.get("ROUNDS", "2"))
_PLAN = strikes.plan(_SEED, _ROUNDS)

pytestmark = [pytest.mark.e2e, pytest.mark.platforms(EXACT), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[StoreOutcome]]:
    """All rounds, shown at the end."""
    outcomes: list[StoreOutcome] = []
    yield outcomes
    cells = [cell for each in outcomes for cell in each.cells]
    print(f"\n{strikes.table(cells)}")  # noqa: T201 - what the drill is for
    for each in outcomes:
        text = f"{each.answers} answers, {each.documents} documents acknowledged"
        after = f"all documents final {each.end.final_s:.1f} s after the last strike"
        print(f"{text}; {after}; {len(each.faults)} faults")  # noqa: T201 - likewise


@pytest.fixture(scope="module")
def drill(platform: RunningPlatform) -> Iterator[Drill]:
    drill = Drill(platform)
    drill.prepare(f"{_SEED}s")
    yield drill
    drill.close()


@pytest.mark.parametrize("number", range(_ROUNDS))
def test_nothing_acknowledged_is_lost_with_a_store(
    platform: RunningPlatform, drill: Drill, outcomes: list[StoreOutcome], number: int
) -> None:
    outcome = store_rounds.run(drill, platform, f"{_SEED}s{number}", _PLAN[number])
    outcomes.append(outcome)
    assert outcome.faults == []
