"""kill -9 at every named step: registry, index and manifest agree; nothing twice or left over.

ROUNDS and SEED choose how many rounds and which; `make fault-drill` runs twenty.
"""

import os
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import RunningPlatform
from tests.e2e.drill.faults import Fault, plan
from tests.e2e.drill.rounds import Drill, Outcome, table

pytestmark = pytest.mark.e2e

_SEED = int(os.environ.get("SEED", "105"))
_ROUNDS = int(os.environ.get("ROUNDS", "2"))


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome]]:
    """All rounds, shown at the end."""
    outcomes: list[Outcome] = []
    yield outcomes
    print(f"\n{table(outcomes)}")  # noqa: T201 - what the drill is for


@pytest.fixture(scope="module")
def drill(platform: RunningPlatform) -> Iterator[Drill]:
    drill = Drill(platform)
    drill.prepare(str(_SEED))
    yield drill
    drill.close()


@pytest.mark.parametrize(
    "fault", plan(_SEED, _ROUNDS), ids=lambda fault: f"{fault.step}-{fault.victim}"
)
def test_everything_is_exact_after_a_kill(
    drill: Drill, outcomes: list[Outcome], fault: Fault
) -> None:
    outcome = drill.run(fault)
    outcomes.append(outcome)
    assert outcome.end.faults == []
