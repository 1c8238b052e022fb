"""Calls that wait for the thread that embeds; what waits together is embedded together.

Serve's own batches (`serve.batch`) close when a call comes, not when the thread is free: under load
each of them held one call, and a question waited behind the sentences of every answer before it.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

Result = TypeVar("Result")

Call: TypeAlias = tuple[Sequence[str], str]
"""Texts, and the name of the model that they are embedded by."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[Result]):
    call: Call
    result: asyncio.Future[Result]


class EmbeddingQueue(Generic[Result]):
    """Forms a batch each time that the thread is free.

    Calls of one text and calls of several take turns, batch by batch. One text is a question, for
    which a search waits; several are sentences of passages, which a busy platform has thousands
    of. So a question waits for the batch under way at the most, and no kind keeps the other out.
    What its caller waits for no longer is left out.
    """

    def __init__(
        self,
        embed: Callable[[Sequence[Call]], Sequence[Result]],
        thread: Executor,
        *,
        batch_texts: int,
    ) -> None:
        """Store what embeds a batch, in which thread, and how many texts a batch may have.

        A call of more texts than that is a batch of its own.
        """
        self._embed = embed
        self._thread = thread
        self._batch_texts = batch_texts
        self._questions: deque[_Waiting[Result]] = deque()
        self._others: deque[_Waiting[Result]] = deque()
        self._turns = deque([self._questions, self._others])
        self._work: asyncio.Task[None] | None = None

    async def embed(self, call: Call) -> Result:
        """Return what embedding gives for a call; its error is that of the whole batch."""
        loop = asyncio.get_running_loop()
        waiting: _Waiting[Result] = _Waiting(call, loop.create_future())
        (self._questions if len(call[0]) == 1 else self._others).append(waiting)
        if self._work is None:
            self._work = loop.create_task(self._embed_all())
        return await waiting.result

    async def _embed_all(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            calls = [waiting.call for waiting in batch]
            embedding = loop.run_in_executor(self._thread, self._embed, calls)
            await asyncio.wait({embedding})
            error = embedding.exception()
            for place, waiting in enumerate(batch):
                if waiting.result.done():  # its caller has gone
                    continue
                if error is None:
                    waiting.result.set_result(embedding.result()[place])
                else:
                    waiting.result.set_exception(error)
        self._work = None

    def _next(self) -> list[_Waiting[Result]]:
        """Return the next batch, of the kind whose turn it is; none where nothing waits."""
        for queue in tuple(self._turns):
            self._turns.rotate()
            if batch := self._taken_from(queue):
                return batch
        return []

    def _taken_from(self, queue: deque[_Waiting[Result]]) -> list[_Waiting[Result]]:
        batch, texts = list[_Waiting[Result]](), 0
        while queue:
            if queue[0].result.cancelled():
                queue.popleft()
                continue
            texts += len(queue[0].call[0])
            if batch and texts > self._batch_texts:
                break
            batch.append(queue.popleft())
        return batch
