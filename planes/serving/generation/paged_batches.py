"""Answers written on a GPU by continuous batching: each joins and leaves at any token.

The attention is paged (https://arxiv.org/abs/2309.06180), the scheduling per token
(https://www.usenix.org/conference/osdi22/presentation/yu); both are transformers' own. It imports
PyTorch, so it is imported with the weights.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import Any
from uuid import uuid4

from transformers import ContinuousBatchingConfig, GenerationConfig


class PagedBatches:
    """Writes answers with a network, in the thread of transformers' manager."""

    def __init__(
        self,
        network: Any,
        *,
        eos_ids: Collection[int],
        pad_id: int,
        cache: ContinuousBatchingConfig | None = None,
    ) -> None:
        """Store the network; `start` starts the thread.

        Args:
            network: The model, on its device.
            eos_ids: Tokens that end an answer.
            pad_id: The token that fills gaps.
            cache: Size of the cache; by default nine tenths of the device's free memory.
        """
        self._eos_ids = sorted(eos_ids)
        self._manager = network.init_continuous_batching(
            generation_config=GenerationConfig(
                do_sample=False, eos_token_id=self._eos_ids, pad_token_id=pad_id
            ),
            continuous_batching_config=cache or ContinuousBatchingConfig(),
        )

    def start(self) -> None:
        """Start the manager's thread, which makes the cache."""
        self._manager.start()

    @property
    def is_running(self) -> bool:
        """Whether the manager's thread lives."""
        return bool(self._manager.is_running())

    def stop(self) -> None:
        """End the manager's thread; answers under way fail."""
        self._manager.stop(block=True, timeout=5, hard_stop=True)

    async def tokens(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[int, None]:
        """Yield an answer's tokens, the end token included; closing it stops the writing.

        Raises:
            RuntimeError: The manager has ended, or the model failed.
        """
        name, told = uuid4().hex, asyncio.Queue[Any]()
        self._manager.register_result_handler(name, told.put_nowait)
        try:
            is_taken = self._manager.add_request(
                list(prompt),
                request_id=name,
                max_new_tokens=max_tokens,
                streaming=True,
                eos_token_id=self._eos_ids,
            )
            if is_taken is None:
                raise RuntimeError("the manager of continuous batches has ended")
            seen, is_finished = 0, False
            while not is_finished:
                output = await told.get()
                if output.error is not None:
                    raise RuntimeError(output.error)
                for token in output.generated_tokens[seen:]:
                    yield token
                seen, is_finished = len(output.generated_tokens), output.is_finished()
        finally:
            # a cancelled request tells nothing more, so nobody else would remove its handler
            self._manager.cancel_request(name)
            self._manager.output_router.result_handlers.pop(name, None)
