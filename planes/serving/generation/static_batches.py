"""Answers written together in padded batches: those that wait when a batch begins share it.

On a CPU a step of four answers takes hardly longer than a step of one, because both read all
weights; paged attention is slower there. It imports PyTorch, so it is imported with the weights.
"""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import torch
from transformers import StoppingCriteriaList

_log = structlog.get_logger(__name__)
_GATHER_S = 0.01
_PREFILL_TOKENS = 256
Told = int | RuntimeError | None
"""A token's id, why there are no more, or None: they are all written."""


class _AllStopped(Exception):
    """Nobody waits for this batch any more."""


@dataclass(eq=False, slots=True)
class _Row:
    """One answer of a batch."""

    prompt: Sequence[int]
    max_tokens: int
    tell: Callable[[Told], None]
    stop: threading.Event = field(default_factory=threading.Event)
    written: int = 0
    is_done: bool = False


class StaticBatches:
    """Writes answers with a network, in a thread of its own."""

    def __init__(
        self, network: Any, *, eos_ids: Collection[int], pad_id: int, batch_size: int
    ) -> None:
        """Store the network; `start` starts the thread."""
        self._network = network
        self._eos_ids = frozenset(eos_ids)
        self._pad_id = pad_id
        self._batch_size = batch_size
        self._waiting: queue.SimpleQueue[_Row] = queue.SimpleQueue()
        self._rows: list[_Row] = []
        self._thread = threading.Thread(target=self._run, name="qwen", daemon=True)

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        for layer in self._network.model.layers:
            layer.register_forward_pre_hook(self._check_stopped)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread lives."""
        return self._thread.is_alive()

    async def tokens(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[int, None]:
        """Yield an answer's tokens, the end token included; closing it stops the writing.

        Raises:
            RuntimeError: PyTorch failed.
        """
        told: asyncio.Queue[Told] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        def tell(item: Told) -> None:
            loop.call_soon_threadsafe(told.put_nowait, item)

        row = _Row(prompt, max_tokens, tell)
        self._waiting.put(row)
        try:
            while (item := await told.get()) is not None:
                if not isinstance(item, int):
                    raise item
                yield item
        finally:
            row.stop.set()

    def _run(self) -> None:
        while True:
            rows = [row for row in self._next_batch() if not row.stop.is_set()]
            if not rows:
                continue
            self._rows = rows
            outcome: RuntimeError | None = None
            try:
                self._write(rows)
            except _AllStopped:
                continue
            except RuntimeError as error:  # PyTorch: out of memory, a broken kernel
                outcome = error
            except Exception as error:  # the edge of this thread: without it nobody is answered
                _log.exception("batch failed")
                outcome = RuntimeError(repr(error))
            for row in rows:
                if not row.stop.is_set():
                    row.tell(outcome)

    def _next_batch(self) -> list[_Row]:
        """Return those that wait, at least one, at most a batch."""
        rows = [self._waiting.get()]
        try:
            while len(rows) < self._batch_size:
                rows.append(self._waiting.get(timeout=_GATHER_S))
        except queue.Empty:
            pass
        return rows

    def _write(self, rows: list[_Row]) -> None:
        width = max(len(row.prompt) for row in rows)
        padding = [width - len(row.prompt) for row in rows]
        ids = [[self._pad_id] * n + list(row.prompt) for n, row in zip(padding, rows, strict=True)]
        mask = [[0] * n + [1] * (width - n) for n in padding]
        with torch.inference_mode():
            self._network.generate(
                input_ids=torch.tensor(ids),
                attention_mask=torch.tensor(mask),
                max_new_tokens=max(row.max_tokens for row in rows),
                do_sample=False,
                prefill_chunk_size=_PREFILL_TOKENS,
                stopping_criteria=StoppingCriteriaList([self._told_all]),
            )

    def _told_all(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Tell each row its newest token; return which rows are done. Called once a token."""
        del scores
        for row, token in zip(self._rows, input_ids[:, -1].tolist(), strict=True):
            row.is_done = row.is_done or row.stop.is_set()
            if not row.is_done:
                row.written += 1
                row.tell(token)
                row.is_done = token in self._eos_ids or row.written >= row.max_tokens
                if row.is_done:
                    row.tell(None)
        return torch.tensor([row.is_done for row in self._rows])

    def _check_stopped(self, *_: object) -> None:
        """Leave the midst of a token, or of a long prompt, once nobody waits for it."""
        if all(row.is_done or row.stop.is_set() for row in self._rows):
            raise _AllStopped
