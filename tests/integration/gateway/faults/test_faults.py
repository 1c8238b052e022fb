"""Rule 11: parts are killed, frozen, slowed and cut off in turn, while people use the gateway.

Whatever happens: no 500, no answer later than its deadline, every part taken up again without a
restart, and books that are right afterwards. The deadlines are asserted with slack; their exact
measurement is `tests.evaluation.reliability`.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

import pytest

from tests.integration.gateway.conftest import until
from tests.integration.gateway.faults.conftest import Part, Rig
from tests.servers.traffic import KINDS, Sample, Traffic, Visitor, observe

SLACK = 2
PLAIN_S = 5.0
CHAT_S = 25.0
RECOVERY_S = 30.0
_GRACE_S = 1.5  # requests under way when a fault begins are judged by its rules only later


@dataclass(frozen=True, slots=True)
class Fault:
    """How a part fails, and how it comes back."""

    name: str
    begin: Callable[[Part], Awaitable[None]]
    seconds: float = 6.0
    is_away: bool = True  # nobody can be served; else it is only late or shaky
    is_silent: bool = True  # patience does not help: whoever asks is refused within the fault


async def _kill(part: Part) -> None:
    part.server.kill()


async def _freeze(part: Part) -> None:
    part.server.freeze()


async def _stall(part: Part) -> None:
    part.proxy.stall()


async def _close(part: Part) -> None:
    await part.proxy.close()


async def _late(part: Part) -> None:
    part.proxy.delay(0.3)


async def _very_late(part: Part) -> None:
    part.proxy.delay(3)


async def _shaky(part: Part) -> None:
    part.proxy.cut_in_the_middle(after_bytes=2_000)


async def _forget(part: Part) -> None:
    part.proxy.forget()


FAULTS = (
    Fault("killed", _kill, 3.0),
    Fault("frozen", _freeze, 7.0),
    Fault("stalled", _stall, 7.0),
    Fault("closed", _close, 2.5),
    Fault("3 s late", _very_late, 7.0, is_silent=False),
    Fault("0.3 s late", _late, 3.0, is_away=False),
    Fault("cut in the middle", _shaky, 3.0, is_away=False),
    Fault("forgotten", _forget, 1.0, is_away=False),
)


async def mend(part: Part) -> None:
    """Bring a part back, whatever was done to it."""
    if part.server.has_ended():
        await part.restart()
    part.server.go_on()
    await part.proxy.heal()


@pytest.fixture
async def visitors(rig: Rig) -> AsyncIterator[dict[str, Visitor]]:
    people = {kind: await rig.visitor() for kind in KINDS}
    yield people
    for person in people.values():
        await person.http.aclose()


@pytest.fixture
async def traffic(visitors: dict[str, Visitor]) -> AsyncIterator[Traffic]:
    traffic = Traffic(visitors)
    traffic.start()
    await all_served(traffic, time.monotonic())
    yield traffic
    await traffic.stop()


async def all_served(traffic: Traffic, since: float) -> float:
    """Wait until every kind of request succeeds again; return how long that took, in seconds."""

    async def is_served() -> bool:
        fine = {
            each.kind for each in traffic.since(since) if each.started > since and each.status < 300
        }
        return fine >= KINDS.keys() - {"stream"} and _stream_is_done(traffic, since)

    await until(is_served, seconds=RECOVERY_S)
    return time.monotonic() - since


def _stream_is_done(traffic: Traffic, since: float) -> bool:
    last = traffic.last("stream")
    return last is not None and last.started > since and last.status == 200


async def drive(
    rig_part: Part, fault: Fault, traffic: Traffic, *, refused: Iterable[str] = ()
) -> list[Sample]:
    """Let a part fail while traffic runs, mend it, and return what was answered in between.

    Where the part is silent, it is mended only when every kind in `refused` has got its 503, but
    for those whose answer was written already and waits, within its deadline, to be billed.
    """
    began = time.monotonic()
    await fault.begin(rig_part)
    await asyncio.sleep(fault.seconds)
    if fault.is_away and fault.is_silent:
        await all_refused(traffic, began, set(refused))
    ended = time.monotonic()
    await mend(rig_part)
    recovery_s = await all_served(traffic, time.monotonic())
    seen = [each for each in traffic.since(began) if each.started < ended]
    print(f"\n{fault.name}: recovery {recovery_s:.1f} s", *summary(seen), sep="\n  ")  # noqa: T201
    for sample in seen:
        check(sample, fault)
    in_time = [each for each in seen if each.ended < ended]
    return [each for each in in_time if each.started > began + _GRACE_S]


async def all_refused(traffic: Traffic, since: float, kinds: set[str]) -> None:
    """Wait until requests of all kinds were refused since the fault began."""

    async def is_refused() -> bool:
        told = {each.kind for each in traffic.since(since) if each.status == 503}
        billed_late = {
            kind for kind in ("chat", "stream") if traffic.under_way_since.get(kind, since) < since
        }
        return told >= kinds - billed_late

    await until(is_refused, seconds=CHAT_S * SLACK)


def check(sample: Sample, fault: Fault) -> None:
    """What holds in every cell of the table."""
    assert not sample.flaw, (fault.name, sample)
    limit_s = CHAT_S if sample.kind in ("chat", "stream") else PLAIN_S
    assert sample.whole_s < limit_s * SLACK, (fault.name, sample)


def summary(samples: list[Sample]) -> list[str]:
    """One line for each kind: how many of each status, and the longest wait."""
    lines = []
    for kind in KINDS:
        of_kind = [each for each in samples if each.kind == kind]
        statuses = sorted({each.status for each in of_kind})
        counts = {s: sum(each.status == s for each in of_kind) for s in statuses}
        longest_s = max((each.whole_s for each in of_kind), default=0)
        lines.append(f"{kind:10} {counts}, longest {longest_s:.2f} s")
    return lines


async def check_books(rig: Rig, visitors: dict[str, Visitor]) -> None:
    """Nothing is reserved, quotas are what the ledger says, and no message is lost or doubled."""
    # as if two lifetimes had passed
    await rig.sql("UPDATE reservations SET expires_at = now() - interval '1 second'")

    async def is_settled() -> bool:
        return not await rig.sql("SELECT FROM reservations")

    await until(is_settled, seconds=30)
    for kind in ("chat", "stream"):
        visitor = visitors[kind]
        usage = (await visitor.http.get("/billing/usage")).json()
        quotas, totals = usage["quotas"], usage["totals"]
        assert quotas["messages"]["used"] == totals["messages"]
        assert quotas["tokens"]["used"] == totals["total_tokens"]
        assert totals["messages"] >= len(visitor.answered)
        for conversation in visitor.answered:
            page = await visitor.http.get(f"/conversations/{conversation}/messages")
            assert [each["role"] for each in page.json()["items"]] == ["user", "assistant"]


def statuses(samples: list[Sample], *kinds: str) -> set[int]:
    return {each.status for each in samples if each.kind in kinds}


async def test_without_postgresql_nothing_is_answered_and_everything_comes_back(
    rig: Rig, traffic: Traffic, visitors: dict[str, Visitor]
) -> None:
    for fault in FAULTS:
        seen = await drive(rig.postgres, fault, traffic, refused=KINDS)
        if fault.is_away:
            assert statuses(seen, *KINDS) <= {503}, fault.name
    await traffic.stop()
    await check_books(rig, visitors)


async def test_without_redis_chat_goes_on_and_nobody_signs_in(
    rig: Rig, traffic: Traffic, visitors: dict[str, Visitor]
) -> None:
    for fault in FAULTS:
        seen = await drive(rig.redis, fault, traffic, refused=["login"])
        if fault.is_away:
            assert statuses(seen, "login") <= {503}, fault.name
            assert statuses(seen, "chat", "stream", "me", "documents", "usage") <= {200}, fault.name
            assert statuses(seen, "upload") <= {202}, fault.name
    await traffic.stop()
    await check_books(rig, visitors)


async def test_without_the_serving_plane_only_answers_are_refused(
    rig: Rig, traffic: Traffic, visitors: dict[str, Visitor]
) -> None:
    for fault in FAULTS:
        seen = await drive(rig.plane, fault, traffic, refused=["chat", "stream"])
        if fault.is_away:
            asked = [each for each in seen if each.kind in ("chat", "stream")]
            assert {each.status for each in asked} <= {503}, fault.name
            assert all(each.whole_s < 1.5 * SLACK for each in asked), fault.name
        others = KINDS.keys() - {"chat", "stream"}
        assert statuses(seen, *others) <= {200, 202}, fault.name
    await traffic.stop()
    await check_books(rig, visitors)


async def test_more_questions_than_can_be_answered_are_refused_in_time(
    rig: Rig, visitors: dict[str, Visitor]
) -> None:
    people = list(visitors.values())[:5]
    samples = await asyncio.gather(
        *(observe(kind, each) for each in people for kind in ("chat", "stream") for _ in range(30))
    )
    print("", *summary(list(samples)), sep="\n  ")  # noqa: T201
    for each in samples:
        assert not each.flaw, each
        assert each.status in (200, 429, 503), each
        assert each.whole_s < CHAT_S * SLACK, each
    await until(lambda: _is_answered(people[0]))
    for person in people:
        await check_books(rig, {"chat": person, "stream": person})


async def _is_answered(person: Visitor) -> bool:
    return (await observe("chat", person)).status == 200


async def test_without_dagster_uploads_wait(rig: Rig, traffic: Traffic) -> None:
    began = time.monotonic()
    for fail in (rig.dagster.stall, rig.dagster.cut):
        fail()
        await asyncio.sleep(2)
    await rig.dagster.close()
    await asyncio.sleep(2)
    seen = traffic.since(began)
    assert statuses(seen, *KINDS) <= {200, 202}
    assert all(each.whole_s < PLAIN_S for each in seen if each.kind == "upload")
