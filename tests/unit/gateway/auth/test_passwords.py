"""Which passwords are accepted, and how they are kept."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from planes.shared.errors import Unavailable
from services.gateway.auth import passwords as module
from services.gateway.auth.password_policy import PasswordPolicy
from services.gateway.auth.passwords import Passwords

PERSONAL = ("ada.lovelace@analytical.example", "ada.lovelace", "analytical", "Ada Lovelace")


@pytest.fixture(scope="module")
def policy() -> PasswordPolicy:
    return PasswordPolicy()


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    passwords = Passwords(threads=1, max_waiting=2)
    yield passwords
    passwords.close()


@pytest.mark.parametrize(
    "password",
    [
        "seven lamps beneath the harbour",
        "correct horse battery staple",
        "test-password-123456",
        "zwölf Boxkämpfer jagen",
        "十五文字以上のとても長い合言葉です",
        "👩‍🚀 rocket tea kettle",
        "tr0ub4dor&3-and-more",
        "&(]#~%+;'?{<=|:*",
        "x" + "qh7Lm2pXw9Rk4Tz",
        "qh7Lm2pXw9Rk4Tz" + "y" * 100,
    ],
)
def test_long_passwords_of_any_kind_are_accepted(policy: PasswordPolicy, password: str) -> None:
    assert policy.flaw(password, PERSONAL) is None


@pytest.mark.parametrize(
    "password",
    [
        "fourteen chars",
        "\ufb03" * 4,  # "ffi" each: twelve characters
        "x" * 1025,
        "aaaaaaaaaaaaaaaa",
        "xk9xk9xk9xk9xk9xk",
        "passwordpassword",
        "Password Password!",
        "P@ssw0rd-P@ssw0rd",
        "123456789012345",
        "qwertyuiopasdfghjkl",
        "abcdefghijklmnopqrstuvwxyz",
        "adalovelace12345",
        "ada.lovelace@analytical.example",
        "Sunshine123456789",
        "".join(chr(0xFF10 + digit) for digit in range(10)) + "12345",  # full width
    ],
)
def test_short_repetitive_and_well_known_ones_are_not(
    policy: PasswordPolicy, password: str
) -> None:
    assert policy.flaw(password, PERSONAL) is not None


def test_judging_the_longest_password_takes_no_time_that_others_notice(
    policy: PasswordPolicy,
) -> None:
    password = ("passwordletmein" + "dragon" * 3) * 31
    started = time.process_time()
    policy.flaw(password[:1023] + "!", ("x" * 200,))
    assert time.process_time() - started < 0.1


@given(st.text(max_size=40))
def test_every_text_can_be_judged(policy: PasswordPolicy, text: str) -> None:
    reason = policy.flaw(text, (text,))
    assert reason is None or reason.endswith(".")


async def test_a_password_is_verified_against_its_hash(passwords: Passwords) -> None:
    stored = await passwords.hash("seven lamps \u00e9")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify("seven lamps e\u0301", stored)
    assert not await passwords.verify("seven lamps", stored)
    assert not await passwords.verify("seven lamps e\u0301", None)


async def test_a_password_beyond_the_limit_is_wrong_and_not_an_error(passwords: Passwords) -> None:
    stored = await passwords.hash("x" * 1024)
    assert await passwords.verify("x" * 1024, stored)
    assert not await passwords.verify("x" * 1025, stored)
    assert not await passwords.verify("\ufdfa" * 1024, stored)


async def test_the_hash_of_nobody_costs_as_much_as_any_other(passwords: Passwords) -> None:
    stored = await passwords.hash("anything")
    parameters = stored.rsplit("$", 2)[0]
    assert module._NOBODY.rsplit("$", 2)[0] == parameters


async def test_more_passwords_than_may_wait_are_refused(passwords: Passwords) -> None:
    results = await asyncio.gather(
        *(passwords.hash("anything") for _ in range(5)), return_exceptions=True
    )
    refused = [result for result in results if isinstance(result, Unavailable)]
    assert len(refused) == 2
    assert await passwords.hash("anything")


@pytest.mark.skipif(sys.platform != "linux", reason="priorities belong to threads on Linux alone")
async def test_hashing_threads_make_way_for_the_event_loop() -> None:
    passwords = Passwords(threads=1)
    await passwords.hash("seven herons near a quiet lake")
    [thread] = [each for each in threading.enumerate() if each.name.startswith("argon2")]
    assert thread.native_id is not None
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    assert os.getpriority(os.PRIO_PROCESS, thread.native_id) > mine
    passwords.close()
