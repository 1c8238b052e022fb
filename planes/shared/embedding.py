"""Sentence embeddings on OpenVINO, by all-MiniLM-L6-v2 or another model of its family.

A sentence vector is the mean of its token vectors (of a few models the first of them), scaled to
length 1 (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084).
"""

import hashlib
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from planes.shared.bert_encoder import GROUP, build_encoder
from planes.shared.embedding_models import (
    MAX_TOKENS,
    MODEL_NAME,
    ModelFiles,
    WeightsError,
    find_model,
    packaged_model_folder,
)
from planes.shared.settings import EmbeddingPrecision

Vectors = NDArray[np.float32]

DIMENSION = 384  # of all-MiniLM-L6-v2
_PREFIX = re.compile(r"^(bert|roberta)\.")  # of weights that a head was trained with
_BATCH = 8
_WIDTH_STEP = 16  # tokens


def load_tokenizer(folder: Path | None = None) -> Tokenizer:
    """Return the model's tokenizer, without truncation or padding."""
    tokenizer = Tokenizer.from_file(str((folder or packaged_model_folder()) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class BertEmbedder:
    """Turns texts into vectors; one instance per process, safe for one thread at a time.

    Attributes:
        dimension: Of a vector.
    """

    def __init__(
        self, files: ModelFiles, *, threads: int = 1, precision: EmbeddingPrecision = "auto"
    ) -> None:
        """Check the weights, build and compile the encoder (about 0.7 s for six layers).

        Args:
            files: Of the model.
            threads: CPU threads; each has an inference of its own, so one text uses one.
            precision: Of the arithmetic; vectors of all precisions may stand in one index.

        Raises:
            WeightsError: The weights are absent, not the published ones, or not the model's.
        """
        self.dimension = files.shape.dimension
        self._prompts = files.prompts
        self._takes_first_token = files.takes_first_token
        try:
            self._tokenizer = load_tokenizer(files.folder)
        except Exception as error:  # of no kind of its own (tokenizers)
            raise WeightsError(f"{files.folder}/tokenizer.json cannot be read: {error}") from error
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding(pad_to_multiple_of=_WIDTH_STEP)
        chosen = chosen_precision(precision)
        weights = _checked_weights(files.folder / "model.safetensors", files.sha256)
        try:
            model = build_encoder(weights, files.shape, is_quantised=chosen == "int8")
        except KeyError as error:
            raise WeightsError(f"{files.folder} lacks the weights {error}.") from error
        except (RuntimeError, ValueError, IndexError) as error:
            raise WeightsError(f"{files.folder} has weights of another shape: {error}") from error
        encoder = ov.Core().compile_model(model, "CPU", _options(threads, chosen))
        self._requests = [encoder.create_infer_request() for _ in range(threads)]

    def embed_questions(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a text, as `embed` does, of texts that ask or are compared."""
        return self._embed([self._prompts.question + text for text in texts])

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one unit vector a passage, shape (len(texts), dimension), in the order given.

        Texts are cut after 256 tokens. Batches are made of texts of like length, because padding
        costs as much as words.
        """
        return self._embed([self._prompts.passage + text for text in texts])

    def _embed(self, texts: Sequence[str]) -> Vectors:
        encodings = self._tokenizer.encode_batch(texts)
        lengths = [sum(encoding.attention_mask) for encoding in encodings]
        order = sorted(range(len(texts)), key=lengths.__getitem__)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        batches = [order[first : first + _BATCH] for first in range(0, len(order), _BATCH)]
        inputs = (_inputs([encodings[row] for row in rows]) for rows in batches)
        running: deque[tuple[Any, list[int], Vectors]] = deque()
        try:
            for rows, tensors in zip(batches, inputs, strict=True):
                # They are waited for here: callbacks from the runtime's own threads have crashed.
                is_full = len(running) == len(self._requests)
                request = (
                    self._collect(running, vectors) if is_full else self._requests[len(running)]
                )
                request.start_async(tensors)
                running.append((request, rows, tensors["mask"]))
            while running:
                self._collect(running, vectors)
        finally:
            for request, _, _ in running:  # none is left but after an error
                request.wait()
        return vectors

    def _collect(self, running: "deque[tuple[Any, list[int], Vectors]]", vectors: Vectors) -> Any:
        """Wait for the oldest inference under way, keep its vectors, and return its request."""
        request, rows, mask = running.popleft()
        request.wait()
        hidden = request.get_output_tensor().data
        if self._takes_first_token:
            mask = np.zeros_like(mask)
            mask[:, 0] = 1
        vectors[rows] = _sentence_vectors(hidden, mask)
        return request


class MiniLMEmbedder(BertEmbedder):
    """all-MiniLM-L6-v2 by its packaged weights, which knows English."""

    def __init__(
        self,
        *,
        threads: int = 1,
        precision: EmbeddingPrecision = "auto",
        folder: Path | None = None,
    ) -> None:
        """Load the model; a `folder` holds the same files as the packaged one.

        Raises:
            WeightsError: The weights are absent or their hash is wrong.
        """
        files = find_model(MODEL_NAME)
        super().__init__(
            replace(files, folder=folder or files.folder), threads=threads, precision=precision
        )


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
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(GROUP if precision == "int8" else 0),
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


def _checked_weights(path: Path, sha256: str | None) -> dict[str, NDArray[Any]]:
    if not path.is_file():
        raise WeightsError(f"There are no weights at {path}.")
    if sha256 is not None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != sha256:
            raise WeightsError(f"{path} has sha256 {digest}, not the published {sha256}.")
    try:
        weights: dict[str, NDArray[Any]] = load_file(str(path))
    except (SafetensorError, TypeError, KeyError, ValueError) as error:  # cut short, or bfloat16
        raise WeightsError(f"{path} cannot be read: {error!r}") from error
    return {_PREFIX.sub("", name): array for name, array in weights.items()}
