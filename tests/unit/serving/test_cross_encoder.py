"""The cross-encoder on a tiny BERT with random weights, which the test builds and saves."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from planes.serving.retrieval.cross_encoder import CrossEncoderReranker, Pairs, load_cross_encoder
from planes.serving.retrieval.fusion import fuse
from tests.fakes_serving import candidate, chunk

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "what", "do", "herons", "eat", "a", "heron", "eats", "fish", "boats", "rain"]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """The folder of a model that knows a few words."""
    pytest.importorskip("sentence_transformers")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=64, **names
    ).save_pretrained(tmp_path)
    torch.manual_seed(7)
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    configuration = transformers.BertConfig(
        vocab_size=len(WORDS), intermediate_size=64, num_labels=1, **shape
    )
    transformers.BertForSequenceClassification(configuration).save_pretrained(tmp_path)
    return str(tmp_path)


async def test_the_models_order_replaces_the_first_passages_order(weights: str) -> None:
    texts = ["rain", "a heron eats fish", "boats", *(f"boats {n}" for n in range(30))]
    read = [chunk(text) for text in texts]
    ranked = fuse([candidate(one, 0.9 - i / 100, 0.0) for i, one in enumerate(read)])
    vector = np.zeros(384, dtype=np.float32)
    reranker = CrossEncoderReranker(load_cross_encoder(weights))
    reranked = await reranker.rerank("what do herons eat", vector, ranked, read[:20])
    assert {i.candidate.id for i in reranked} == {i.candidate.id for i in ranked}
    assert [item.score for item in reranked] == [item.score for item in ranked]
    assert reranked[20:] == ranked[20:]
    assert reranked != ranked


async def test_a_ranking_that_is_given_up_before_its_turn_is_never_begun() -> None:
    is_over, asked = threading.Event(), list[Pairs]()

    def slow(pairs: Pairs) -> Sequence[float]:
        asked.append(pairs)
        assert is_over.wait(60)
        return [float(place) for place in range(len(pairs))]

    read = [chunk(f"boats {n}") for n in range(30)]
    ranked = fuse([candidate(one, 0.9 - n / 100, 0.0) for n, one in enumerate(read)])
    vector, reranker = np.zeros(384, dtype=np.float32), CrossEncoderReranker(slow)
    for _ in range(2):  # the second waits for the first
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await reranker.rerank("what " * 1000, vector, ranked, read[: reranker.depth])
    is_over.set()
    assert len(asked) == 1
    assert len(asked[0]) == 20
    assert max(len(question) for question, _ in asked[0]) == 1000
