"""Models by name: tiny ones with random weights and a trained tokenizer, written by the test."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from planes.shared.domain import IndexRecipe
from planes.shared.embedding import BertEmbedder
from planes.shared.embedding_models import MODEL_NAME, WeightsError, find_model
from planes.shared.errors import InvalidInput
from planes.shared.recipe import check_recipe, dimension_of

NAME, DIMENSION, HEADS, POSITIONS = "acme/tiny-e5-small", 64, 4, 300
TEXTS = [
    "Wie hoch ist der Damm?",
    "Der Damm ist neunzig Meter hoch.",
    "Dammen er h\u00f8y.",
]
CONFIG = {
    "model_type": "xlm-roberta",
    "hidden_size": DIMENSION,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS,
    "pad_token_id": 1,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
}


def weights() -> dict[str, Any]:
    """Random weights under the names of transformers."""
    chance = np.random.default_rng(7)

    def some(*shape: int) -> Any:
        return chance.normal(0, 0.2, shape).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": some(400, DIMENSION),
        "embeddings.position_embeddings.weight": some(POSITIONS, DIMENSION),
        "embeddings.token_type_embeddings.weight": some(1, DIMENSION),
    }
    norms = ["embeddings.LayerNorm"]
    projections = {f"attention.self.{name}": (64, 64) for name in ("query", "key", "value")}
    others = {"attention.output.dense": (64, 64), "intermediate.dense": (128, 64)}
    for layer in (f"encoder.layer.{number}" for number in range(2)):
        for name, shape in (projections | others | {"output.dense": (64, 128)}).items():
            found[f"{layer}.{name}.weight"] = some(*shape)
            found[f"{layer}.{name}.bias"] = some(shape[0])
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    for norm in norms:
        found[f"{norm}.weight"], found[f"{norm}.bias"] = some(DIMENSION) + 1, some(DIMENSION)
    return found


def write(folder: Path, config: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Write a model in the layout of sentence-transformers."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(tensors, str(folder / "model.safetensors"))


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """A folder with one model."""
    write(tmp_path / NAME, CONFIG, {f"roberta.{n}": w for n, w in weights().items()})
    return tmp_path


def test_a_model_by_name_embeds_questions_and_passages_as_it_was_trained(models_dir: Path) -> None:
    files = find_model(NAME, models_dir)
    assert (files.prompts.question, files.prompts.passage) == ("query: ", "passage: ")
    embedder = BertEmbedder(files, precision="f32")
    vectors = embedder.embed(TEXTS)
    assert vectors.shape == (3, DIMENSION) == (3, dimension_of(NAME, models_dir))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors, embedder.embed_questions(TEXTS), atol=1e-3)
    assert np.allclose(vectors[:1], embedder.embed(TEXTS[:1]), atol=1e-4)
    check_recipe(IndexRecipe(NAME, "semchunk-128"), models_dir)


def test_positions_of_roberta_begin_behind_the_padding(models_dir: Path, tmp_path: Path) -> None:
    tensors, positions = weights(), "embeddings.position_embeddings.weight"
    tensors[positions] = np.ascontiguousarray(tensors[positions][2:])
    as_bert = CONFIG | {"model_type": "bert", "max_position_embeddings": POSITIONS - 2}
    other_folder = tmp_path / "acme" / "other-e5-small"
    write(other_folder, as_bert, tensors)
    shutil.copy(models_dir / NAME / "tokenizer.json", other_folder)
    one, other = (
        BertEmbedder(find_model(name, models_dir), precision="f32").embed(TEXTS)
        for name in (NAME, "acme/other-e5-small")
    )
    assert np.allclose(one, other, atol=1e-5)


def test_a_folders_own_prompts_and_pooling_are_taken(models_dir: Path) -> None:
    folder = models_dir / NAME
    own = {"prompts": {"query": "ask: ", "document": "told: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(own), "utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    mean, first = BertEmbedder(find_model(NAME, models_dir)), find_model(str(folder))
    assert (first.prompts.question, first.prompts.passage) == ("ask: ", "told: ")
    assert mean.embed(TEXTS).shape == BertEmbedder(first).embed(TEXTS).shape


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model_type": "mpnet"}, "model_type"),
        ({"max_position_embeddings": 128}, "256 are needed"),
        ({"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    models_dir: Path, change: dict[str, Any], reason: str
) -> None:
    (models_dir / NAME / "config.json").write_text(json.dumps(CONFIG | change), "utf-8")
    with pytest.raises(WeightsError, match=reason):
        find_model(NAME, models_dir)


def test_absent_weights_are_named_with_what_to_do(models_dir: Path) -> None:
    (models_dir / NAME / "model.safetensors").unlink()
    for name, folder in ((NAME, models_dir), ("acme/absent", models_dir), ("acme/absent", None)):
        with pytest.raises(InvalidInput, match=r"EMBEDDING_MODELS_DIR"):
            dimension_of(name, folder)
    assert dimension_of(MODEL_NAME) == 384
