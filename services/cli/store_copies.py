"""The steps of moving the index: a copy that is built, verified, and switched to."""

import time
from datetime import UTC, datetime

from planes.data.evaluation.questions import Question
from planes.shared.errors import Conflict, InvalidInput, Unavailable
from planes.shared.stores.copy_check import CopyCheck, TenantComparison, now_of
from services.cli.generation_desk import Desk
from services.cli.generation_steps import bring_live, follow_build
from services.cli.terminal import console

_SEED = 7


async def begin_copy(desk: Desk, *, source: str, target: str) -> int:
    """Make an empty copy of the live generation, or take up one that was begun; return its number.

    Raises:
        Conflict: The index stands somewhere else.
        InvalidInput: There is no such store, or it cannot do what is needed.
    """
    live = await desk.generations.live()
    stands_in = live.store or desk.chunks.default
    if stands_in != source:
        raise Conflict(f"The index stands in {stands_in}, not in {source}.")
    if source == target:
        raise InvalidInput(f"The index stands in {target} already.")
    for generation in await desk.generations.all():
        if generation.store == target and generation.holds_what(live):
            console.print(f"Generation {generation.number} in {target} is brought up to date.")
            return generation.number
    number = await desk.generations.create_copy(live.number, store=target)
    console.print(f"Made generation {number} in {target}.")
    return number


async def build_copy(desk: Desk, number: int) -> datetime:
    """Have the data plane copy what is missing, and show how it proceeds.

    Returns:
        When it was asked: what was published before is in the copy.

    Raises:
        Conflict: Documents cannot be copied; it names them.
    """
    asked_at = await now_of(desk.registry)
    await desk.generations.want_build(number)
    await desk.request_turn(number)
    notes = (await follow_build(desk, number)).build or {}
    if notes.get("failures"):
        named = "\n".join(f"  {one['document_id']}: {one['reason']}" for one in notes["failed"])
        raise Conflict(f"{notes['failures']} documents cannot be copied:\n{named}")
    return asked_at


async def verify_copy(desk: Desk, number: int, *, published_before: datetime | None = None) -> bool:
    """Compare a copy with the live generation, print what each tenant has, and keep the result.

    What differs is doubted, so that the next build looks again.

    Args:
        desk: The platform.
        number: The copy.
        published_before: What was published later may be missing; None: before this call.

    Returns:
        Whether nothing differs and nothing is missing.

    Raises:
        Conflict: It is no copy of the live generation.
    """
    live, generation = await desk.generations.live(), await desk.generations.get(number)
    if number == live.number or not generation.holds_what(live):
        raise Conflict(f"Generation {number} is no copy of the live one, which is {live.number}.")
    check = CopyCheck(desk.registry, desk.chunks, source=live.number, target=number)
    began, found = time.monotonic(), list[TenantComparison]()
    async for one in check.compare(published_before=published_before):
        found.append(one)
        _print(one)
        if not one.is_equal:
            await check.doubt(one)
    is_equal = all(one.is_equal for one in found)
    if is_equal:
        await desk.generations.note_verified(
            number,
            {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "compared_with": live.number,
                "tenants": len(found),
                "versions": sum(one.versions for one in found),
                "chunks": sum(one.chunks[1] for one in found),
                "seconds": round(time.monotonic() - began, 1),
            },
        )
    return is_equal


async def bring_copy_live(desk: Desk, number: int, *, unverified: bool) -> None:
    """Switch to a copy, after the serving plane has shown that it reaches it.

    Raises:
        Conflict: It was never verified, or lacks documents that cannot be copied.
        Unavailable: The serving plane does not reach the copy, or a store does not answer.
    """
    live = await desk.generations.live()
    sample = await desk.generations.sample(number, live=live.number, chunks=1, seed=_SEED)
    for tenant_id, document_id, text in sample:
        try:
            await desk.search(Question(tenant_id, text, {document_id: 1}), number)
        except Unavailable as error:
            raise Unavailable(
                f"The serving plane does not search generation {number}: {error.detail} Give all "
                "services the address of its store, and restart them; nothing was switched."
            ) from error
    await bring_live(desk, number, unevaluated=unverified)


def _print(one: TenantComparison) -> None:
    here, there = one.chunks
    flaws = {"differ": len(one.differing), "are missing": one.missing}
    told = ", ".join(f"{count} documents {what}" for what, count in flaws.items() if count)
    console.print(
        f"{one.tenant_id}  {one.versions} documents  {here} and {there} chunks  "
        f"sha256 {one.sha256[0][:16]} and {one.sha256[1][:16]}  {told or 'equal'}",
        markup=False,
    )
