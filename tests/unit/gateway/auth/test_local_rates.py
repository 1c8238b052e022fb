"""Limits inside one process."""

import pytest

from planes.shared.errors import TooManyRequests
from services.gateway.limits.addresses import network_of
from services.gateway.limits.rates import LocalRates, Rates


def chat(rates: LocalRates, who: str, limit: int) -> Rates:
    return rates.take(who, [("chat", limit)])


@pytest.mark.parametrize("limit", [1, 7, 60, 120, 12_000])
def test_a_minutes_worth_passes_at_once_and_then_one_at_a_time(limit: int) -> None:
    now = 1000.0
    rates = LocalRates(lambda: now)
    passed = [chat(rates, "ada", limit) for _ in range(limit)]
    assert all(rate.is_admitted for rate in passed)
    assert passed[-1].each[0].remaining == 0
    refused = chat(rates, "ada", limit)
    with pytest.raises(TooManyRequests):
        refused.check()
    assert chat(rates, "bob", limit).is_admitted
    assert rates.take("ada", [("requests", limit)]).is_admitted
    now += refused.each[0].retry_after_s
    assert chat(rates, "ada", limit).is_admitted
    assert not chat(rates, "ada", limit).is_admitted


def test_a_request_that_one_limit_refuses_counts_against_none() -> None:
    now = 1000.0
    rates = LocalRates(lambda: now)
    both = [("requests", 10), ("chat", 2)]
    answers = [rates.take("ada", both) for _ in range(5)]
    assert [answer.is_admitted for answer in answers] == [True, True, False, False, False]
    assert [rate.remaining for rate in answers[-1].each] == [8, 0]
    with pytest.raises(TooManyRequests) as refusal:
        answers[-1].check()
    assert refusal.value.extensions == {"violated-policies": ["chat"]}
    assert refusal.value.retry_after_s == 30


def test_what_redis_said_last_is_where_the_process_goes_on() -> None:
    rates = LocalRates(lambda: 1000.0)
    before = LocalRates(lambda: 5.0)
    for _ in range(4):
        rates.note("ada", chat(before, "ada", 5))
    assert [chat(rates, "ada", 5).is_admitted for _ in range(2)] == [True, False]


def test_only_so_many_users_are_remembered() -> None:
    rates = LocalRates(lambda: 0.0, max_keys=2)
    for user in ("ada", "bob", "eve"):
        chat(rates, user, 1)
    assert chat(rates, "ada", 1).is_admitted
    assert not chat(rates, "eve", 1).is_admitted


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
    assert network_of(address) == network
