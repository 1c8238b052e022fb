"""What an hour's load comes to: memory of its second half, growth, answers."""

import pytest

from tests.benchmarks.gateway.wrk import Load
from tests.benchmarks.soak import measured


def _load(requests: int, failed: int = 0) -> Load:
    return Load(requests, 48.0, 1.0, 2.0, 3.0, failed)


def test_a_flat_soak_without_failures_can_be_told() -> None:
    found = {
        each.name: each for each in measured([_load(60), _load(40)], [80.0, 95.0, 100.0, 100.0])
    }
    assert found["soak.memory"].samples == (100.0, 100.0)
    assert found["soak.growth"].samples == pytest.approx((1.0,))
    assert found["soak.answers"].samples == (100.0,)
    assert found["soak.answered"].samples == (100.0,)


@pytest.mark.parametrize(("late", "growth"), [([100.0, 101.0], 1.597), ([101.0, 100.0], 0.403)])
def test_growth_is_the_line_through_the_second_half(late: list[float], growth: float) -> None:
    found = {each.name: each for each in measured([_load(1000, 1)], [50.0, 60.0, *late])}
    assert found["soak.growth"].samples == pytest.approx((growth,), abs=0.001)
    assert found["soak.answered"].samples == pytest.approx((99.9,))
