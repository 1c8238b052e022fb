"""The encoder of BERT and XLM-RoBERTa as an OpenVINO graph, built from weights without PyTorch.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805; Conneau et al. 2020,
https://arxiv.org/abs/1911.02116, which counts positions otherwise and is the same else.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from planes.shared.embedding_models import Shape

GROUP = 64
"""Of numbers that share a scale, where they are quantised."""


def _quantised(matrix: NDArray[np.float32]) -> Any:
    """Return a matrix as unsigned bytes with a scale and a zero point for every 64 of a row.

    The product with activations that are quantised in the same groups on the way is within .0008
    of the exact one's direction (cosine).
    """
    rows, columns = matrix.shape
    groups = matrix.reshape(rows, columns // GROUP, GROUP)
    lowest = groups.min(axis=-1, keepdims=True)
    scale = (groups.max(axis=-1, keepdims=True) - lowest) / 255
    zero = np.clip(np.rint(-lowest / scale), 0, 255)
    whole = np.clip(np.rint(groups / scale) + zero, 0, 255)

    def as_float(numbers: NDArray[np.float32]) -> Any:
        return ops.convert(ops.constant(numbers.astype(np.uint8)), "f32")

    product = ops.multiply(ops.subtract(as_float(whole), as_float(zero)), ops.constant(scale))
    return ops.reshape(product, ops.constant(np.array([rows, columns])), special_zero=False)


def build_encoder(
    weights: Mapping[str, NDArray[Any]], shape: Shape, *, is_quantised: bool
) -> ov.Model:
    """Build the encoder: `ids` and `mask` (batch, tokens) in, the last hidden state out."""

    def constant(name: str) -> Any:
        return ops.constant(weights[name].astype(np.float32))

    def dense(x: Any, name: str) -> Any:
        matrix = weights[f"{name}.weight"].astype(np.float32)
        is_even = matrix.shape[1] % GROUP == 0
        operand = _quantised(matrix) if is_quantised and is_even else ops.constant(matrix)
        product = ops.matmul(x, operand, transpose_a=False, transpose_b=True)
        return ops.add(product, constant(f"{name}.bias"))

    def layer_norm(x: Any, name: str) -> Any:
        axes = ops.constant(np.array([-1]))
        scaled = ops.mvn(x, axes, True, shape.epsilon, "inside_sqrt")
        return ops.add(ops.multiply(scaled, constant(f"{name}.weight")), constant(f"{name}.bias"))

    def heads(x: Any) -> Any:
        split = ops.constant(np.array([0, 0, shape.heads, shape.dimension // shape.heads]))
        order = ops.constant(np.array([0, 2, 1, 3]))
        return ops.transpose(ops.reshape(x, split, special_zero=True), order)

    def joined(x: Any) -> Any:
        whole = ops.constant(np.array([0, 0, shape.dimension]))
        order = ops.constant(np.array([0, 2, 1, 3]))
        return ops.reshape(ops.transpose(x, order), whole, special_zero=True)

    ids = ops.parameter([-1, -1], np.int64, name="ids")
    mask = ops.parameter([-1, -1], np.float32, name="mask")
    zero = ops.constant(0)
    length = ops.gather(ops.shape_of(ids), ops.constant(1), zero)
    first = ops.constant(np.int64(shape.first_position))
    positions = ops.range(first, ops.add(length, first), ops.constant(np.int64(1)), "i64")
    x = ops.gather(constant("embeddings.word_embeddings.weight"), ids, zero)
    x = ops.add(x, ops.gather(constant("embeddings.position_embeddings.weight"), positions, zero))
    one_kind = weights["embeddings.token_type_embeddings.weight"][0].astype(np.float32)
    x = ops.add(x, ops.constant(one_kind))
    x = layer_norm(x, "embeddings.LayerNorm")

    away = ops.multiply(
        ops.subtract(ops.constant(np.float32(1)), mask), ops.constant(np.float32(-1e9))
    )
    bias = ops.unsqueeze(away, ops.constant(np.array([1, 2])))
    for index in range(shape.layers):
        layer = f"encoder.layer.{index}"
        attended = ops.scaled_dot_product_attention(
            heads(dense(x, f"{layer}.attention.self.query")),
            heads(dense(x, f"{layer}.attention.self.key")),
            heads(dense(x, f"{layer}.attention.self.value")),
            bias,
        )
        projected = dense(joined(attended), f"{layer}.attention.output.dense")
        x = layer_norm(ops.add(x, projected), f"{layer}.attention.output.LayerNorm")
        inner = ops.gelu(dense(x, f"{layer}.intermediate.dense"), "erf")
        outer = dense(inner, f"{layer}.output.dense")
        x = layer_norm(ops.add(x, outer), f"{layer}.output.LayerNorm")
    return ov.Model([x], [ids, mask], "encoder")
