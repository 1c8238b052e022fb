"""The Qwen generator on a tiny Qwen3 with random weights, which the test builds and saves."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from planes.serving.generation.qwen import QwenGenerator, QwenOptions
from planes.shared.domain import ChatMode, FinishReason
from planes.shared.errors import Unavailable
from planes.shared.ports import Prompt
from planes.shared.wire import ChatTurn
from tests.fakes_serving import passage

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from transformers import ContinuousBatchingConfig  # noqa: E402 - an extra, see above

from planes.serving.generation.paged_batches import PagedBatches  # noqa: E402
from planes.serving.generation.static_batches import StaticBatches  # noqa: E402

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """PyTorch's threads wait for one another in busy loops, which a loaded machine cannot bear."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-qwen3")
    _save_tokenizer(folder)
    torch.manual_seed(7)
    configuration = transformers.Qwen3Config(
        vocab_size=600,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    transformers.Qwen3ForCausalLM(configuration).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=["auto", "bf16", "int8"])
def generator(weights: Path, request: pytest.FixtureRequest) -> QwenGenerator:
    return loaded(weights, QwenOptions(precision=request.param))


def loaded(weights: Path, options: QwenOptions) -> QwenGenerator:
    generator = QwenGenerator(str(weights), model="tiny", options=options)
    generator.load()
    return generator


def _save_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|pad|>", "<|im_end|>", "<|im_start|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(["The harbour of Leith opened in 1901. " * 20], trainer)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|pad|>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)


def prompt(*, max_tokens: int = 40, max_prompt_tokens: int = 1500) -> Prompt:
    history = (
        ChatTurn(role="user", content="When? " * 40),
        ChatTurn(role="assistant", content="In 1901. " * 40),
    )
    passages = [passage("The harbour of Leith opened in 1901. " * 3) for _ in range(4)]
    return Prompt("Why?", "Why?", ChatMode.RAG, passages, history, max_prompt_tokens, max_tokens)


async def test_an_answer_is_streamed_and_ends_at_its_limit(generator: QwenGenerator) -> None:
    pieces = [piece async for piece in generator.generate(prompt())]
    assert pieces[-1].finish_reason in {FinishReason.LENGTH, FinishReason.STOP}
    counts = [piece.completion_tokens for piece in pieces]
    assert counts == sorted(counts)
    assert 0 < counts[-1] <= 40
    assert "".join(piece.text for piece in pieces)


async def test_the_prompt_is_cut_to_its_limit_by_the_models_own_tokens(
    generator: QwenGenerator,
) -> None:
    whole = [piece async for piece in generator.generate(prompt(max_tokens=1))]
    limit = whole[-1].prompt_tokens - 10
    cut = [
        piece async for piece in generator.generate(prompt(max_tokens=1, max_prompt_tokens=limit))
    ]
    assert cut[-1].prompt_tokens <= limit


async def written(generator: QwenGenerator, asked: Prompt) -> tuple[str, int]:
    pieces = [piece async for piece in generator.generate(asked)]
    return "".join(piece.text for piece in pieces), pieces[-1].completion_tokens


async def test_answers_at_the_same_time_are_those_of_each_alone(weights: Path) -> None:
    generator = loaded(weights, QwenOptions(precision="f32", batch_size=4))
    questions = [
        replace(prompt(max_tokens=5 + 10 * n), question="Why? " * (1 + 9 * n)) for n in range(4)
    ]
    alone = [await written(generator, asked) for asked in questions]
    together = await asyncio.gather(*(written(generator, asked) for asked in questions))
    assert list(together) == alone


async def test_one_answer_of_a_batch_may_be_given_up(weights: Path) -> None:
    generator = loaded(weights, QwenOptions(precision="f32"))
    asked = prompt()
    alone = await written(generator, asked)
    given_up = generator.generate(replace(asked, max_tokens=900))
    kept = generator.generate(asked)
    await asyncio.gather(anext(given_up), anext(kept))
    await anext(given_up)
    await given_up.aclose()
    assert "".join([piece.text async for piece in kept]) == alone[0]


class Held:
    """Counts the layers that a network computes, and holds its thread before one of them."""

    def __init__(self, network: Any, *, before: int) -> None:
        self.computed = 0
        self._before = before
        self._reached, self._go_on = threading.Event(), threading.Event()
        for layer in network.model.layers:
            layer.register_forward_pre_hook(self._hold)
            layer.register_forward_hook(self._count)

    def _hold(self, *_: object) -> None:
        if self.computed == self._before and not self._go_on.is_set():
            self._reached.set()
            assert self._go_on.wait(60)

    def _count(self, *_: object) -> None:
        self.computed += 1

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 60)

    def go_on(self) -> None:
        self._go_on.set()


def tiny_network(weights: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(weights, dtype="float32").eval()


def padded_batches(network: Any) -> StaticBatches:
    batches = StaticBatches(network, eos_ids=[1], pad_id=0, batch_size=2)
    batches.start()
    return batches


@pytest.mark.parametrize(
    ("prompt_tokens", "before"),
    [
        pytest.param(1500, 3, id="while a long prompt is read"),
        pytest.param(4, 21, id="in the midst of a token"),
    ],
)
async def test_an_answer_given_up_is_left_at_the_next_layer(
    weights: Path, prompt_tokens: int, before: int
) -> None:
    network = tiny_network(weights)
    held = Held(network, before=before)
    batches = padded_batches(network)
    given_up = asyncio.ensure_future(all_of(batches.tokens([5] * prompt_tokens, 1500)))
    await held.reached()
    given_up.cancel()
    await asyncio.wait({given_up})
    held.go_on()
    assert len(await all_of(batches.tokens([5, 6], 2))) <= 2
    # the layer that was held, and of the answer that followed: two tokens of two layers each
    assert held.computed <= before + 1 + 4


async def all_of(tokens: AsyncGenerator[int, None]) -> list[int]:
    async with aclosing(tokens) as written:
        return [token async for token in written]


@pytest.fixture(scope="module")
def paged_cache() -> ContinuousBatchingConfig:
    """Small enough for a CPU."""
    return ContinuousBatchingConfig(
        num_blocks=16, max_batch_tokens=128, page_size=32, auto_switch_to_flash=False
    )


async def test_a_paged_answer_given_up_is_left_at_the_next_token(
    weights: Path, paged_cache: ContinuousBatchingConfig
) -> None:
    network = tiny_network(weights)
    held = Held(network, before=20)
    paged = PagedBatches(network, eos_ids=[1], pad_id=0, cache=paged_cache)
    paged.start()
    try:
        given_up = asyncio.ensure_future(all_of(paged.tokens([5, 9, 20, 31], 300)))
        await held.reached()
        given_up.cancel()
        await asyncio.wait({given_up})
        held.go_on()
        assert len(await all_of(paged.tokens([5, 6], 2))) <= 2
        # the token that was held, the one begun meanwhile, and the two that followed
        assert held.computed <= 20 + 2 * 4
    finally:
        paged.stop()


async def test_continuous_batches_write_what_padded_ones_write(
    weights: Path, paged_cache: ContinuousBatchingConfig
) -> None:
    paged = PagedBatches(tiny_network(weights), eos_ids=[1], pad_id=0, cache=paged_cache)
    paged.start()
    prompts = [[5, 9, 20, 31] * n for n in (1, 4, 9)]
    try:
        found = await asyncio.gather(*(all_of(paged.tokens(ids, 12)) for ids in prompts))
    finally:
        paged.stop()
    padded = padded_batches(tiny_network(weights))
    assert found == [await all_of(padded.tokens(ids, 12)) for ids in prompts]


async def test_answers_above_the_most_are_refused(weights: Path) -> None:
    generator = loaded(weights, QwenOptions(precision="f32", max_answers=1))
    first = generator.generate(prompt())
    await anext(first)
    with pytest.raises(Unavailable, match="busy"):
        await anext(generator.generate(prompt()))
    await first.aclose()
    assert await written(generator, prompt(max_tokens=2))


async def test_reasoning_is_billed_and_told_only_where_it_was_asked_for(
    generator: QwenGenerator,
) -> None:
    unasked = [piece async for piece in generator.generate(prompt())]
    assert not any(piece.thinking for piece in unasked)
    asked = [piece async for piece in generator.generate(replace(prompt(), thinking=True))]
    assert asked[-1].completion_tokens > 0
