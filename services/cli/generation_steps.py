"""The steps that take a while: a build that is followed, and the switch after the last turn."""

import asyncio
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from planes.data.evaluation.comparison import Comparison, compare
from planes.data.evaluation.questions import Question, StoredPassage, known_items
from planes.shared.errors import Conflict
from planes.shared.stores.postgres_generations import Generation
from services.cli.generation_desk import Desk
from services.cli.terminal import console

_POLL_S = 0.5
_STANDSTILL_S = 600.0
_SEED = 7


async def follow_build(desk: Desk, number: int) -> Generation:
    """Show how a build proceeds until the data plane says that it can do no more.

    Returns:
        The generation, with what its builder says.
    """
    with _bar() as bar:
        task = bar.add_task(f"Generation {number}", total=None)
        while True:
            generation = await desk.generations.get(number)
            progress = await desk.generations.progress(number)
            done = progress.versions - progress.missing
            bar.update(task, completed=done, total=progress.versions)
            if not generation.build_wanted:
                return generation
            await asyncio.sleep(_POLL_S)


async def bring_live(desk: Desk, number: int, *, unevaluated: bool) -> None:
    """Switch to a generation; what it still lacks is added before, while nothing else runs.

    Raises:
        Conflict: It is live, was never evaluated, or lacks documents that cannot be added.
        Unavailable: Database or Dagster do not answer.
    """
    missing = await desk.generations.switch(number, unevaluated=unevaluated)
    while missing:
        console.print(f"{missing} documents are still missing: adding them first.")
        asked_at = datetime.now(UTC)
        await desk.request_turn(number, is_last=True)
        missing = await _switch_when_complete(desk, number, asked_at, unevaluated=unevaluated)


async def evaluate(
    desk: Desk, number: int, questions: list[Question] | None, *, chunks: int
) -> Comparison:
    """Compare a generation with the live one and keep the result with it.

    Args:
        desk: The platform.
        number: The generation.
        questions: None: sentences of so many documents that are picked from all.
        chunks: How many, where there are no questions.

    Raises:
        Conflict: There is nothing to ask, or the generation is the live one.
        Unavailable: The serving plane does not answer.
    """
    live = (await desk.generations.live()).number
    if (await desk.generations.get(number)).number == live:
        raise Conflict(f"Generation {number} is the live one: there is nothing to compare.")
    asked = questions or await _sentences(desk, number, live=live, chunks=chunks)
    if not asked:
        raise Conflict(f"Generation {number} holds no document to ask about: build it first.")
    comparison = await compare(asked, desk.search, live=live, other=number)
    progress = await desk.generations.progress(number)
    await desk.generations.note_evaluation(
        number,
        asdict(comparison)
        | {
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "compared_with": live,
            "source": "file" if questions else "stored sentences",
            "missing": progress.missing,
        },
    )
    return comparison


async def _sentences(desk: Desk, number: int, *, live: int, chunks: int) -> list[Question]:
    sample = await desk.generations.sample(number, live=live, chunks=chunks, seed=_SEED)
    return known_items((StoredPassage(*chunk) for chunk in sample), seed=_SEED)


async def _switch_when_complete(
    desk: Desk, number: int, asked_at: datetime, *, unevaluated: bool
) -> int:
    """Return 0 after the switch, or how many are missing when the turn has ended without them."""
    given_up_at, least = time.monotonic() + _STANDSTILL_S, None
    while time.monotonic() < given_up_at:
        missing = (await desk.generations.progress(number)).missing
        if not missing:
            missing = await desk.generations.switch(number, unevaluated=unevaluated)
            if not missing:
                return 0
        build = (await desk.generations.get(number)).build or {}
        if _ended_after(build, asked_at):
            _check_failures(number, missing, build)
            return missing
        if least is None or missing < least:
            given_up_at, least = time.monotonic() + _STANDSTILL_S, missing
        await asyncio.sleep(_POLL_S)
    raise Conflict(
        f"Nothing was added for {_STANDSTILL_S:.0f} s and {missing} documents are missing from "
        f"generation {number}; nothing was switched. Look at the job `reembedding` in Dagster."
    )


def _ended_after(build: dict[str, Any], moment: datetime) -> bool:
    ended_at = build.get("ended_at")
    return ended_at is not None and datetime.fromisoformat(ended_at) > moment


def _check_failures(number: int, missing: int, build: dict[str, Any]) -> None:
    if not build.get("failures"):
        return
    named = "\n".join(f"  {one['document_id']}: {one['reason']}" for one in build["failed"])
    raise Conflict(
        f"{missing} documents are missing from generation {number}, so nothing was switched. These "
        f"cannot be added: process them again, or delete them.\n{named}"
    )


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("documents"),
        TimeElapsedColumn(),
        console=console,
    )
