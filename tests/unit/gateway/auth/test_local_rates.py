"""Limits inside one process."""

import pytest

from planes.shared.errors import TooManyRequests
from services.gateway.limits.rates import EndpointClass, LocalRates
from services.gateway.limits.throttle import _network


@pytest.mark.parametrize("limit", [1, 7, 60, 120, 12_000])
def test_a_minutes_worth_passes_at_once_and_then_one_at_a_time(limit: int) -> None:
    now = 1000.0
    rates = LocalRates(lambda: now)
    passed = [rates.take("ada", limit, EndpointClass.CHAT) for _ in range(limit)]
    assert all(rate.is_admitted for rate in passed)
    assert passed[-1].remaining == 0
    refused = rates.take("ada", limit, EndpointClass.CHAT)
    with pytest.raises(TooManyRequests):
        refused.check()
    assert rates.take("bob", limit, EndpointClass.CHAT).is_admitted
    assert rates.take("ada", limit, EndpointClass.REQUESTS).is_admitted
    now += refused.retry_after_s
    assert rates.take("ada", limit, EndpointClass.CHAT).is_admitted
    assert not rates.take("ada", limit, EndpointClass.CHAT).is_admitted


def test_only_so_many_users_are_remembered() -> None:
    rates = LocalRates(lambda: 0.0, max_keys=2)
    for user in ("ada", "bob", "eve"):
        rates.take(user, 1, EndpointClass.CHAT)
    assert rates.take("ada", 1, EndpointClass.CHAT).is_admitted
    assert not rates.take("eve", 1, EndpointClass.CHAT).is_admitted


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("testclient", "unknown"),
    ],
)
def test_an_address_counts_with_all_that_one_person_has(address: str, network: str) -> None:
    assert _network(address) == network
