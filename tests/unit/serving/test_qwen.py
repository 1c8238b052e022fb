"""The Qwen generator on a tiny Qwen3 with random weights, which the test builds and saves."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from planes.serving.generation.qwen import QwenGenerator, QwenOptions
from planes.shared.domain import ChatMode, FinishReason
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


async def test_closing_the_answer_stops_the_writing_thread(generator: QwenGenerator) -> None:
    answer = generator.generate(prompt(max_tokens=1500, max_prompt_tokens=1500))
    await anext(answer)  # tells what was read, before any text
    await anext(answer)
    await answer.aclose()
    async with asyncio.timeout(5):
        follow_up = [piece async for piece in generator.generate(prompt(max_tokens=2))]
    assert follow_up[-1].completion_tokens <= 2


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


async def test_a_prompt_that_is_being_read_can_be_given_up(weights: Path) -> None:
    batches = generator_batches(weights)
    answer = batches.tokens([5] * 1500, 1)
    reading = asyncio.ensure_future(anext(answer))
    await asyncio.sleep(0)
    reading.cancel()
    async with asyncio.timeout(5):
        assert [token async for token in batches.tokens([5, 6], 1)]


def generator_batches(weights: Path) -> StaticBatches:
    network = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype="float32").eval()
    batches = StaticBatches(network, eos_ids=[1], pad_id=0, batch_size=2)
    batches.start()
    return batches


async def test_continuous_batches_write_what_padded_ones_write(weights: Path) -> None:
    network = transformers.AutoModelForCausalLM.from_pretrained(weights, dtype="float32").eval()
    cache = ContinuousBatchingConfig(
        num_blocks=16, max_batch_tokens=128, page_size=32, auto_switch_to_flash=False
    )
    paged = PagedBatches(network, eos_ids=[1], pad_id=0, cache=cache)
    paged.start()
    try:
        prompts = [[5, 9, 20, 31] * n for n in (1, 4, 9)]

        async def ask(batches: StaticBatches | PagedBatches, ids: list[int]) -> list[int]:
            return [token async for token in batches.tokens(ids, 12)]

        found = await asyncio.gather(*(ask(paged, ids) for ids in prompts))
        answer = paged.tokens(prompts[0], 300)
        await anext(answer)
        await answer.aclose()
        assert await ask(paged, prompts[0]) == found[0]
    finally:
        paged.stop()
    padded = generator_batches(weights)
    assert found == [await ask(padded, ids) for ids in prompts]


async def test_reasoning_is_billed_and_told_only_where_it_was_asked_for(
    generator: QwenGenerator,
) -> None:
    unasked = [piece async for piece in generator.generate(prompt())]
    assert not any(piece.thinking for piece in unasked)
    asked = [piece async for piece in generator.generate(replace(prompt(), thinking=True))]
    assert asked[-1].completion_tokens > 0
