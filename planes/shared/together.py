"""Calls that wait at the same time go together: one round trip, one commit, for all of them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_MOST = 128


class NotTogether(Exception):
    """The group could not be done as one, and nothing of it was: each is to be tried by itself."""


class Together(Generic[Item, Result]):
    """Does items in groups, one group after the other.

    The first item goes at once; those that come while it is under way are the next group. So a call
    alone waits for nobody, and the more there are the less each of them costs.

    An item is done, exactly once, even where its caller is cancelled and no longer waits for it.
    """

    def __init__(
        self,
        group: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        alone: Callable[[Item], Awaitable[Result]] | None = None,
        unclaimed: Callable[[Item, Result], Awaitable[None]] | None = None,
    ) -> None:
        """Store the work.

        Args:
            group: Does items and returns a result, or what went wrong, for each of them; what it
                raises is the failure of them all.
            alone: Does one item where `group` raises `NotTogether`. It keeps nobody else waiting.
            unclaimed: Undoes an item whose caller was cancelled meanwhile.
        """
        self._group = group
        self._alone = alone
        self._unclaimed = unclaimed
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def do(self, item: Item) -> Result:
        """Do an item with those that wait, and return its result.

        Raises:
            Exception: Its own failure, or that of its group.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), _MOST)
                await self._do([self._waiting.popleft() for _ in range(count)])
        finally:
            self._worker = None

    async def _do(self, group: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = await self._group([item for item, _ in group])
        except NotTogether:
            for item, future in group:
                self._keep(self._do_alone(item, future))
            return
        except Exception as error:
            results = [error] * len(group)
        for (item, future), result in zip(group, results, strict=True):
            self._tell(item, future, result)

    async def _do_alone(self, item: Item, future: asyncio.Future[Result]) -> None:
        assert self._alone is not None  # noqa: S101 (whoever raises NotTogether gives it)
        try:
            result: Result | Exception = await self._alone(item)
        except Exception as error:
            result = error
        self._tell(item, future, result)

    def _tell(self, item: Item, future: asyncio.Future[Result], result: Result | Exception) -> None:
        if not future.done():
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
        elif self._unclaimed is not None and not isinstance(result, Exception):
            self._keep(self._unclaimed(item, result))

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
