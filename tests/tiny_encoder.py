"""A tiny encoder with random weights and a trained tokenizer, as a folder of a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

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
