"""Models by name: tiny ones with random weights and a trained tokenizer, written by the test."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planes.shared.domain import IndexRecipe
from planes.shared.embedding import BertEmbedder
from planes.shared.embedding_models import MODEL_NAME, WeightsError, find_model
from planes.shared.errors import InvalidInput
from planes.shared.recipe import check_recipe, dimension_of
from tests.tiny_encoder import CONFIG, DIMENSION, NAME, POSITIONS, TEXTS, weights, write


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
