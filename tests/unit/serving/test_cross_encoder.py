"""The cross-encoder on a tiny BERT with random weights, which the test builds and saves."""

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from planes.serving.retrieval.cross_encoder import CrossEncoderReranker
from planes.serving.retrieval.fusion import fuse
from planes.shared.domain import Candidate
from tests.fakes_serving import chunk

pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "what", "do", "herons", "eat", "a", "heron", "eats", "fish", "boats", "rain"]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """The folder of a model that knows a few words."""
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
    ranked = fuse([Candidate(chunk(t), 0.9 - i / 100, 0.0) for i, t in enumerate(texts)])
    vector = np.zeros(384, dtype=np.float32)
    reranked = await CrossEncoderReranker(weights).rerank("what do herons eat", vector, ranked)
    assert {i.candidate.chunk.id for i in reranked} == {i.candidate.chunk.id for i in ranked}
    assert [item.score for item in reranked] == [item.score for item in ranked]
    assert reranked[20:] == ranked[20:]
    assert reranked != ranked
