"""Vectors of texts for the caller's own use."""

import asyncio
from base64 import b64encode

import numpy as np
from tokenizers import Tokenizer

from planes.serving.retrieval.hybrid import Embed
from planes.shared.embedding_models import MAX_TOKENS, MODEL_NAME
from planes.shared.errors import InvalidInput
from planes.shared.wire import EmbedRequest, EmbedResponse

_TEXTS_AT_ONCE = 16  # questions that wait for an answer come between
_REQUESTS_AT_ONCE = 2


class TextEmbedding:
    """Turns texts into vectors with the embedder that search uses.

    Attributes:
        model: The embedder's name.
    """

    model = MODEL_NAME

    def __init__(self, embed: Embed, tokenizer: Tokenizer) -> None:
        """Store the embedder and its tokenizer, which must not truncate."""
        self._embed = embed
        self._tokenizer = tokenizer
        self._turns = asyncio.Semaphore(_REQUESTS_AT_ONCE)

    async def embed(self, request: EmbedRequest) -> EmbedResponse:
        """Return one vector a text, and how many tokens were read, special ones included.

        Raises:
            InvalidInput: A text is longer than the model reads, and is not to be truncated.
            Unavailable: The embedder does not answer.
        """
        lengths = await asyncio.to_thread(self._lengths, request.texts)
        most = min(MAX_TOKENS, request.max_tokens)
        if not request.truncate:
            _check(lengths, most)
        vectors: list[str] = []
        async with self._turns:
            for first in range(0, len(request.texts), _TEXTS_AT_ONCE):
                rows = await self._embed(request.texts[first : first + _TEXTS_AT_ONCE])
                vectors += [
                    b64encode(row.astype(np.dtype("<f4")).tobytes()).decode() for row in rows
                ]
        tokens = sum(min(length, most) for length in lengths)
        return EmbedResponse(model=self.model, tokens=tokens, vectors=tuple(vectors))

    def _lengths(self, texts: tuple[str, ...]) -> list[int]:
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]


def _check(lengths: list[int], most: int) -> None:
    for number, length in enumerate(lengths):
        if length > most:
            raise InvalidInput(
                f"Text {number} has {length} tokens, and the model reads {most}. Send shorter "
                "texts, or `truncate: true` to have their beginnings read."
            )
