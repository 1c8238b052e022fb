"""The fault table on the running platform: parts are killed and frozen while people use it."""

import asyncio
import os
import signal
import time

import psutil

from tests.evaluation.reliability.ending import BOUNDLESS
from tests.evaluation.reliability.target import Target
from tests.servers.traffic import KINDS, Sample, Traffic, register

_FAULT_S = 8.0
_GIVE_UP_S = 120.0
_PAUSE_S = 0.3
_PARTS = ("postgres", "redis", "serving", "dagster-web")


async def faults(target: Target) -> None:
    """Print a row for each part and way to fail: statuses, longest waits, recovery."""
    names = [part.name for part in target.parts()]
    print(f"| part | fault | {' | '.join(KINDS)} | away | all served after |")
    print("|---|---|" + "---|" * (len(KINDS) + 2))
    async with target.free_plan(**BOUNDLESS, upload_requests_per_minute=10_000):
        visitors = {kind: await register(target.base_url) for kind in KINDS}
        traffic = Traffic(visitors, pause_s=_PAUSE_S)
        traffic.start()
        for name in _PARTS:
            if name not in names:
                print(f"(there is no part {name} among {', '.join(names)})")
                continue
            for fault in ("killed", "frozen"):
                await _cell(target, traffic, name, fault)
        await traffic.stop()


async def _cell(target: Target, traffic: Traffic, name: str, fault: str) -> None:
    await _all_served(traffic, time.monotonic())
    pid = target.part(name).pid
    assert pid is not None
    began = time.monotonic()
    if fault == "killed":
        os.kill(pid, signal.SIGKILL)
    else:
        frozen = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        _signal(frozen, signal.SIGSTOP)
        await asyncio.sleep(_FAULT_S)
        _signal(frozen, signal.SIGCONT)
    back = await _back(target, name, pid if fault == "killed" else None)
    recovery_s = await _all_served(traffic, back)
    seen = [each for each in traffic.since(began) if each.started < back + recovery_s]
    flaws = {each.flaw for each in seen if each.flaw}
    cells = " | ".join(_cell_text([each for each in seen if each.kind == kind]) for kind in KINDS)
    away = f"{back - began:.1f} s | {recovery_s:.1f} s"
    print(f"| {name} | {fault} | {cells} | {away} |", *flaws, sep="\n", flush=True)


async def _back(target: Target, name: str, killed: int | None) -> float:
    """Wait until the supervisor has a part ready again, in a new process where it was killed."""
    while (part := target.part(name)).condition != "ready" or part.pid == killed:
        await asyncio.sleep(0.05)
    return time.monotonic()


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


async def _all_served(traffic: Traffic, since: float) -> float:
    while True:
        served = {e.kind for e in traffic.since(since) if e.started > since and e.status < 300}
        if served >= KINDS.keys():
            return time.monotonic() - since
        assert time.monotonic() < since + _GIVE_UP_S, KINDS.keys() - served
        await asyncio.sleep(0.05)


def _cell_text(samples: list[Sample]) -> str:
    statuses = sorted({each.status for each in samples})
    longest_s = max((each.whole_s for each in samples), default=0.0)
    return f"{'/'.join(map(str, statuses))} {longest_s:.1f} s"
