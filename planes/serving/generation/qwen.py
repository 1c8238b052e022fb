"""Qwen3 in this process, by transformers. Needs the extra `qwen`, which is loaded only here."""

import asyncio
import importlib.util
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

from planes.serving.agent.prompts import Message
from planes.serving.generation.detokenizer import Detokenizer
from planes.serving.generation.fitting import PromptRead, fit
from planes.serving.generation.tags import TagFilter
from planes.serving.generation.tool_calls import forced_beginning, tool_calls
from planes.serving.settings import QwenPrecision
from planes.shared.domain import FinishReason
from planes.shared.errors import Unavailable
from planes.shared.ports import Generated, Prompt, ToolCallPiece

_CPU, _GPU = "cpu", "cuda"
_DTYPES = {"auto": "auto", "f32": "float32", "bf16": "bfloat16", "int8": "bfloat16"}


def is_installed() -> bool:
    """Tell whether the extra `qwen` is there, without loading it."""
    return all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers"))


@dataclass(frozen=True, slots=True)
class QwenOptions:
    """How a model runs: on which device, in which precision, and how many answers at a time.

    `batch_size` counts for the CPU alone; on a GPU its memory is the limit. Of `max_answers` those
    that no batch has room for wait.
    """

    precision: QwenPrecision = "auto"
    batch_size: int = 4
    max_answers: int = 16
    on_gpu: bool = False
    threads: int | None = None


class Batches(Protocol):
    """Writes many answers at a time, token by token."""

    @property
    def is_running(self) -> bool:
        """Whether it can write."""

    def tokens(self, prompt: Sequence[int], max_tokens: int) -> AsyncGenerator[int, None]:
        """Yield an answer's tokens, the end token included; closing it stops the writing."""


class QwenGenerator:
    """Writes answers with a chat model from a folder of weights."""

    def __init__(self, weights: str, *, model: str, options: QwenOptions | None = None) -> None:
        """Store where the weights are; `load` reads them.

        Args:
            weights: A folder in the format of `save_pretrained`.
            model: The name that answers and prices use.
            options: The default ones if None.
        """
        self.model = model
        self._weights = weights
        self._options = options or QwenOptions()
        self._tokenizer: Any = None
        self._batches: Batches | None = None
        self._eos_ids: frozenset[int] = frozenset()
        self._answers = 0

    def load(self) -> None:
        """Read the weights (seconds; 1 to 4 bytes of memory a parameter) and start to work.

        Raises:
            RuntimeError: A GPU is wanted and PyTorch finds none.
        """
        import torch
        import transformers

        options = self._options
        if options.on_gpu and not torch.cuda.is_available():
            raise RuntimeError("SERVING_QWEN_GPUS is set, but PyTorch finds no CUDA device.")
        if options.threads is not None:
            torch.set_num_threads(options.threads)
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(self._weights)  # nosec B615 (a folder)
        network = transformers.AutoModelForCausalLM.from_pretrained(  # nosec B615 (a folder)
            self._weights, dtype=_DTYPES[options.precision]
        )
        if options.precision == "int8":
            from planes.serving.generation.int8 import quantize

            network = quantize(network)
        self._start(network.to(_GPU if options.on_gpu else _CPU).eval())

    def _start(self, network: Any) -> None:
        ends = network.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        self._eos_ids = frozenset([*ends, self._tokenizer.eos_token_id])
        tokens: dict[str, Any] = {"eos_ids": self._eos_ids, "pad_id": self._tokenizer.pad_token_id}
        if self._options.on_gpu:
            from planes.serving.generation.paged_batches import PagedBatches

            paged = PagedBatches(network, **tokens)
            paged.start()
            self._batches = paged
        else:
            from planes.serving.generation.static_batches import StaticBatches

            static = StaticBatches(network, **tokens, batch_size=self._options.batch_size)
            static.start()
            self._batches = static

    def check(self) -> None:
        """Return where answers can be written.

        Raises:
            Unavailable: The weights are not loaded, or the writing thread has ended.
        """
        self._running_batches()

    def _running_batches(self) -> Batches:
        if self._batches is None or not self._batches.is_running:
            raise Unavailable("The language model has stopped. Try again in a moment.")
        return self._batches

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer as it is written; closing the iterator stops the writing.

        Raises:
            InvalidInput: The question alone exceeds the prompt's limit.
            Unavailable: Too many answers wait already, or the model failed.
        """
        if self._answers >= self._options.max_answers:
            raise Unavailable("The language model is busy. Try again in a moment.", retry_after_s=5)
        batches = self._running_batches()
        self._answers += 1
        try:
            fitted = await asyncio.to_thread(
                fit, prompt, lambda messages: len(self._token_ids(messages, prompt))
            )
            yield PromptRead("", fitted.prompt_tokens, 0, passages=fitted.passages)
            writing = _Writing(self._tokenizer, prompt, fitted.prompt_tokens)
            ids, last = self._token_ids(fitted.messages, prompt), -1
            async with aclosing(batches.tokens(ids, prompt.max_tokens)) as tokens:
                async for last in tokens:
                    if last not in self._eos_ids and (piece := writing.feed(last)) is not None:
                        yield piece
            is_whole = last in self._eos_ids
            yield writing.finish(FinishReason.STOP if is_whole else FinishReason.LENGTH)
        except RuntimeError as error:  # PyTorch: out of memory, a broken kernel
            raise Unavailable("The language model failed. Try again in a moment.") from error
        finally:
            self._answers -= 1

    def _token_ids(self, messages: list[Message], prompt: Prompt) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            messages,
            tools=[tool.definition for tool in prompt.tools] or None,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=prompt.thinking,
        )
        text += forced_beginning(prompt)
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


class _Writing:
    """An answer under way: its tokens to pieces, with those to charge."""

    def __init__(self, tokenizer: Any, prompt: Prompt, prompt_tokens: int) -> None:
        self._text = Detokenizer(tokenizer)
        self._thinking = TagFilter("think")
        may_call = prompt.tools or prompt.exchanges  # out of habit, when it may no more
        self._calls = TagFilter("tool_call") if may_call else None
        self._called = ""
        self._without_calls(forced_beginning(prompt))
        self._is_thinking_asked = prompt.thinking
        self._prompt_tokens = prompt_tokens
        self._charged = 0

    def feed(self, token: int) -> Generated | None:
        """Return the piece that is certain now, or None."""
        was_thinking = self._thinking.is_inside
        parted = self._thinking.feed(self._text.feed(token))
        is_thinking = was_thinking or self._thinking.is_inside
        self._charged += self._is_thinking_asked or not is_thinking
        text = self._without_calls(parted.text)
        thinking = parted.inside if self._is_thinking_asked else ""
        is_calling = self._calls is not None and self._calls.is_inside  # which is told as tokens
        if not text and not thinking and not is_calling:
            return None
        return Generated(text, self._prompt_tokens, self._charged, thinking=thinking)

    def finish(self, reason: FinishReason) -> Generated:
        """Return the last piece."""
        rest = self._thinking.feed(self._text.finish()).text + self._thinking.finish().text
        rest = self._without_calls(rest) + (self._calls.finish().text if self._calls else "")
        calls = tool_calls(self._called)
        pieces = tuple(
            ToolCallPiece(index, call.id, call.name, call.arguments)
            for index, call in enumerate(calls)
        )
        tokens = (self._prompt_tokens, self._charged)
        return Generated(rest, *tokens, reason, tool_calls=calls, call_pieces=pieces)

    def _without_calls(self, text: str) -> str:
        if self._calls is None:
            return text
        parted = self._calls.feed(text)
        self._called += parted.inside
        return parted.text
