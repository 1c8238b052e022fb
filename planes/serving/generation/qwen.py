"""Qwen3 in this process, by transformers. Needs the extra `qwen`, which is loaded only here.

One answer is written at a time, in a thread of its own; further ones wait their turn.
"""

import asyncio
import importlib.util
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from planes.serving.agent.prompts import Message
from planes.serving.generation.fitting import PromptRead, fit
from planes.shared.domain import FinishReason
from planes.shared.errors import Unavailable
from planes.shared.ports import Generated, Prompt

_MAX_WAITING = 8


def is_installed() -> bool:
    """Tell whether the extra `qwen` is there, without loading it."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


class QwenGenerator:
    """Writes answers with a chat model from a folder of weights."""

    def __init__(self, weights: str, *, model: str) -> None:
        """Store where the weights are; `load` reads them.

        Args:
            weights: A folder in the format of `save_pretrained`.
            model: The name that answers and prices use.
        """
        self.model = model
        self._weights = weights
        self._transformers: Any = None
        self._tokenizer: Any = None
        self._network: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="qwen")
        self._waiting = 0

    def load(self) -> None:
        """Read the weights (seconds; 2 bytes of memory a parameter)."""
        import transformers

        self._transformers = transformers
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(self._weights)  # nosec B615 (a folder)
        network = transformers.AutoModelForCausalLM.from_pretrained(  # nosec B615 (a folder)
            self._weights, dtype="auto"
        )
        self._network = network.eval()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer as it is written; closing the iterator stops the writing thread.

        Raises:
            InvalidInput: The question alone exceeds the prompt's limit.
            Unavailable: Too many answers wait already, or the model failed.
        """
        if self._waiting >= _MAX_WAITING:
            raise Unavailable("The language model is busy. Try again in a moment.", retry_after_s=5)
        fitted = fit(prompt, lambda messages: len(self._token_ids(messages)))
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[str, int] | None] = asyncio.Queue()

        def tell(piece: tuple[str, int] | None) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        stop = threading.Event()
        self._waiting += 1
        writing = loop.run_in_executor(
            self._thread, self._write, fitted.messages, prompt.max_tokens, tell, stop
        )
        try:
            count = 0
            yield PromptRead("", fitted.prompt_tokens, 0, passages=fitted.passages)
            while (piece := await pieces.get()) is not None:
                text, count = piece
                yield Generated(text, fitted.prompt_tokens, count)
            try:
                finish_reason = await writing
            except RuntimeError as error:  # torch: out of memory, a broken kernel
                raise Unavailable("The language model failed. Try again in a moment.") from error
            yield Generated("", fitted.prompt_tokens, count, finish_reason)
        finally:
            stop.set()
            self._waiting -= 1

    def _token_ids(self, messages: list[Message]) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _write(
        self,
        messages: list[Message],
        max_tokens: int,
        tell: Callable[[tuple[str, int] | None], None],
        stop: threading.Event,
    ) -> FinishReason:
        """Write one answer in this thread, telling (piece, tokens so far), at last None."""
        try:
            if stop.is_set():
                return FinishReason.CANCELLED
            streamer = self._streamer(tell)
            self._run(messages, max_tokens, streamer, stop)
            return FinishReason.LENGTH if streamer.count >= max_tokens else FinishReason.STOP
        finally:
            tell(None)

    def _run(
        self, messages: list[Message], max_tokens: int, streamer: Any, stop: threading.Event
    ) -> None:
        import torch

        def has_stopped(input_ids: Any, scores: Any, **_: Any) -> Any:
            del scores
            return torch.full((input_ids.shape[0],), stop.is_set(), device=input_ids.device)

        ids = torch.tensor([self._token_ids(messages)], device=self._network.device)
        with torch.inference_mode():
            self._network.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_tokens,
                do_sample=False,
                streamer=streamer,
                stopping_criteria=self._transformers.StoppingCriteriaList([has_stopped]),
            )

    def _streamer(self, tell: Callable[[tuple[str, int] | None], None]) -> Any:
        """Return a streamer that tells finished words; its `count` is the tokens written."""

        class Streamer(self._transformers.TextStreamer):  # type: ignore[name-defined,misc]  # an extra
            count = 0
            is_prompt = True

            def put(self, value: Any) -> None:
                if self.is_prompt:
                    self.is_prompt = False
                else:
                    self.count += value.numel()
                super().put(value)

            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                del stream_end
                tell((text, self.count))

        return Streamer(self._tokenizer, skip_prompt=True, skip_special_tokens=True)
