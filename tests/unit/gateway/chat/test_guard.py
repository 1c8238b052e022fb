"""Which answers the guard asks PostgreSQL about."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Any, cast
from uuid import UUID

from planes.shared.domain import Role, TenantContext, new_id
from planes.shared.errors import PlatformError
from services.gateway.auth.models import Account
from services.gateway.chat.answers import Answer
from services.gateway.chat.guard import StreamGuard
from services.gateway.limits.feed import RevocationFeed
from services.gateway.limits.revocations import Revocation
from services.gateway.limits.versions import Version


class Feed:
    """A subscription that the test speaks on."""

    is_alive = True

    def __init__(self) -> None:
        self.said: asyncio.Queue[Revocation | None] = asyncio.Queue()

    async def revocations(self) -> AsyncIterator[Revocation | None]:
        while True:
            yield await self.said.get()


class RunningAnswer:
    """An answer that notes why it was ended."""

    def __init__(self) -> None:
        self.aborted: asyncio.Future[PlatformError] = asyncio.get_running_loop().create_future()

    def abort(self, problem: PlatformError) -> None:
        self.aborted.set_result(problem)


async def nobody_is_signed_in(_: Collection[UUID]) -> dict[UUID, tuple[Version, Role]]:
    return {}


async def test_an_answer_that_began_while_revocations_were_missed_is_looked_at() -> None:
    feed, answer = Feed(), RunningAnswer()
    guard = StreamGuard(cast(RevocationFeed, feed), nobody_is_signed_in)
    tasks = [asyncio.create_task(work()) for work in (guard.listen, guard.look)]
    # its request was admitted; then its session ended, unheard; then the feed is back
    feed.said.put_nowait(None)
    while not feed.said.empty():
        await asyncio.sleep(0)
    account = Account(TenantContext(new_id(), new_id()), Role.MEMBER, new_id(), version=Version(1))
    guard.watch(cast(Answer, cast(Any, answer)), account)
    async with asyncio.timeout(5):
        problem = await answer.aborted
    assert problem.status == 401
    for task in tasks:
        task.cancel()
