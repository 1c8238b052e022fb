"""What stands beside the gateway's ladder: groups, the limit, the answer's events, tokens."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import jwt
import pytest

from planes.shared.domain import Role, TenantContext
from services.gateway.auth.key_rotation import rotate
from services.gateway.auth.keys import SigningKeys
from services.gateway.auth.models import AccessClaims
from services.gateway.auth.tokens import AccessTokens, TokenRules
from services.gateway.limits.versions import Version
from tests.benchmarks.gateway.bare import Waiting
from tests.benchmarks.gateway.beside import DATABASE_VARIABLE, Place, done_of
from tests.benchmarks.gateway.ladder import RequestsFailed, check, known_beside
from tests.benchmarks.gateway.upstream import MODEL, _events
from tests.benchmarks.gateway.wrk import Load
from tests.benchmarks.pinning import Cores
from tests.benchmarks.records import Measurement
from tests.benchmarks.scaling import compared, room_for_two


async def test_what_waits_meanwhile_goes_together() -> None:
    groups: list[list[int]] = []

    async def double(items: list[int]) -> Sequence[int]:
        groups.append(items)
        await asyncio.sleep(0)
        return [2 * item for item in items]

    waiting = Waiting(double)
    assert await asyncio.gather(*map(waiting.do, range(4))) == [0, 2, 4, 6]
    assert groups == [[0, 1, 2, 3]]
    assert await waiting.do(7) == 14


async def test_a_group_that_fails_fails_for_all_and_the_next_one_works() -> None:
    async def fail_on_zero(items: list[int]) -> Sequence[int]:
        if 0 in items:
            raise ZeroDivisionError
        return items

    waiting = Waiting(fail_on_zero)
    failed = await asyncio.gather(waiting.do(0), waiting.do(1), return_exceptions=True)
    assert [type(each) for each in failed] == [ZeroDivisionError] * 2
    assert await waiting.do(1) == 1


def test_the_last_event_of_an_answer_is_read() -> None:
    done = done_of(b"".join(_events(3)))
    assert done["model"] == MODEL
    assert done["usage"] == {"prompt_tokens": 40, "completion_tokens": 21}


def test_tokens_of_the_gateway_are_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rotate(tmp_path, publish_s=0)
    keys = SigningKeys(tmp_path, publish_s=0)
    keys.open()
    claims = AccessClaims(TenantContext(uuid4(), uuid4()), Role.OWNER, uuid4(), Version(1, 1))
    token = AccessTokens(keys, TokenRules(), new_id=uuid4).mint(claims)
    environment = {
        "GATEWAY_KEYS_DIR": str(tmp_path),
        "GATEWAY_PORT": "1",
        "GATEWAY_SERVING_URL": "http://127.0.0.1:2",
        "REDIS_URL": "redis://127.0.0.1:3",
        "SERVING_TOKEN_SECRET": "s" * 40,
        DATABASE_VARIABLE: "postgresql://127.0.0.1:4",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    place = Place.read()
    assert place.verified(token)["tenant"] == str(claims.context.tenant_id)
    head, _, signature = token.rpartition(".")
    with pytest.raises(jwt.InvalidSignatureError):
        place.verified(f"{head}.{signature[:-6]}AAAAAA")


def load(requests: int, failed: int) -> Load:
    return Load(requests, 1.0, 1.0, 1.0, 1.0, failed)


def test_a_step_that_fails_or_never_answers_says_nothing() -> None:
    check("chat", [load(5, 0)])
    with pytest.raises(RequestsFailed, match="chat: 2 of 5 requests failed"):
        check("chat", [load(5, 0), load(5, 2)])
    with pytest.raises(RequestsFailed, match="0 of 0"):
        check("chat", [load(0, 0)])


def test_only_what_was_measured_stands_beside() -> None:
    beside = ("gateway.bare.rate", "gateway.plain.rate")
    chat = Measurement("gateway.chat.rate", "requests/s", (1.0,), "higher", beside)
    bare = Measurement("gateway.bare.rate", "requests/s", (2.0,), "higher")
    assert [each.beside for each in known_beside([chat, bare])] == [("gateway.bare.rate",), ()]


def test_scaling_is_the_ratio_of_each_round() -> None:
    rates = {"one": (100.0, 200.0), "two": (150.0, 400.0)}
    *_, ratio = compared("scaling.gateways", rates, {"one": (1.0, 1.0), "two": (1.0, 1.0)})
    assert ratio.name == "scaling.gateways.two_of_one"
    assert ratio.samples == (1.5, 2.0)


def test_two_processes_have_a_core_each_where_there_are_two() -> None:
    many = Cores(frozenset({0, 1}), frozenset({2, 3}))
    assert room_for_two(many) == many
    assert room_for_two(Cores(frozenset({0}), frozenset({1}))).measured == {0, 1}
