"""The Qwen generator on a tiny Qwen3 with random weights, which the test builds and saves."""

import asyncio
from pathlib import Path

import pytest

from planes.serving.generation.qwen import QwenGenerator
from planes.shared.domain import ChatMode, FinishReason
from planes.shared.ports import Prompt
from planes.shared.wire import ChatTurn
from tests.fakes_serving import passage

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> QwenGenerator:
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
    loaded = QwenGenerator(str(folder), model="tiny")
    loaded.load()
    return loaded


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
    async with asyncio.timeout(2):
        follow_up = [piece async for piece in generator.generate(prompt(max_tokens=2))]
    assert follow_up[-1].completion_tokens <= 2


async def test_answers_at_the_same_time_wait_their_turn(generator: QwenGenerator) -> None:
    async def ask() -> int:
        pieces = [piece async for piece in generator.generate(prompt(max_tokens=5))]
        return pieces[-1].completion_tokens

    assert all(count <= 5 for count in await asyncio.gather(*(ask() for _ in range(4))))
