"""Any server that speaks OpenAI's chat completions: vLLM, Ollama, Groq and the like.

The wire format is https://platform.openai.com/docs/api-reference/chat-streaming.
"""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

import httpx
import structlog
from httpx_sse import EventSource, SSEError

from planes.serving.agent.prompts import Message
from planes.serving.generation.completion import BrokenAnswer, Completion
from planes.serving.generation.fitting import PromptRead, fit
from planes.serving.generation.tokens import TokenCounter
from planes.shared.errors import PlatformError, Unavailable
from planes.shared.ports import Generated, Prompt

_ATTEMPTS = 3
_FIRST_BACKOFF_S = 0.25
_TOKENS_A_MESSAGE = 4
_RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DOWN = "The language model does not answer. Try again in a moment."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a model's server may take, in seconds; the first token's covers all attempts."""

    connect_s: float = 5.0
    first_token_s: float = 45.0
    between_tokens_s: float = 20.0


class _AttemptFailed(Exception):
    """The server cannot answer now; another attempt may succeed."""


class OpenAIGenerator:
    """Streams answers from an OpenAI-compatible server."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        model: str,
        tokens: TokenCounter,
        *,
        deadlines: Deadlines | None = None,
    ) -> None:
        """Store the parts.

        Args:
            client: With the server's address as base (`http://host:port/v1/`) and its key.
            model: The name that the server knows.
            tokens: Estimates lengths before the server tells them, and where it never does.
            deadlines: The default ones if None.
        """
        self._client = client
        self.model = model
        self._tokens = tokens
        self._deadlines = deadlines or Deadlines()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer as it comes; at most three attempts are made before the first token.

        Raises:
            InvalidInput: The question alone exceeds the prompt's limit.
            Unavailable: The server does not answer in time, refuses, or breaks off.
        """
        fitted = fit(prompt, self._count)
        completion = Completion(prompt, fitted.prompt_tokens, self._tokens)
        first_token_at = asyncio.get_running_loop().time() + self._deadlines.first_token_s
        has_begun = False
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._attempt(self._body(fitted.messages, prompt), first_token_at)
                async with aclosing(answer) as events:
                    async for data in events:
                        if not has_begun:
                            has_begun = True
                            yield PromptRead("", fitted.prompt_tokens, 0, passages=fitted.passages)
                        if (piece := completion.read(data)) is not None:
                            yield piece
                last = completion.finish()
            except (_AttemptFailed, BrokenAnswer, httpx.TransportError, TimeoutError) as error:
                _log.warning("language model failed", attempt=attempt, error=repr(error))
                late = asyncio.get_running_loop().time() >= first_token_at
                if completion.has_started or late or attempt == _ATTEMPTS:
                    raise Unavailable(_DOWN) from error
            else:
                yield last
                return
            await asyncio.sleep(_backoff_s(attempt))

    async def _attempt(
        self, body: dict[str, object], first_token_at: float
    ) -> AsyncGenerator[str, None]:
        """Yield the data of each event of one request, each within its deadline."""
        clock = asyncio.get_running_loop()
        async with asyncio.timeout_at(first_token_at) as limit, self._request(body) as response:
            await _check(response)
            try:
                async with aclosing(EventSource(response).aiter_sse()) as events:
                    async for event in events:
                        limit.reschedule(None)  # the reader may take its time
                        yield event.data
                        limit.reschedule(clock.time() + self._deadlines.between_tokens_s)
            except SSEError as error:
                raise _AttemptFailed(str(error)) from error

    def _request(self, body: dict[str, object]) -> AbstractAsyncContextManager[httpx.Response]:
        timeout = httpx.Timeout(None, connect=self._deadlines.connect_s)
        return self._client.stream("POST", "chat/completions", json=body, timeout=timeout)

    def _body(self, messages: list[Message], prompt: Prompt) -> dict[str, object]:
        return {
            "model": self.model,
            "messages": messages,
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _count(self, messages: list[Message]) -> int:
        return sum(self._tokens.count(m["content"]) + _TOKENS_A_MESSAGE for m in messages)


def _backoff_s(attempt: int) -> float:
    jitter = 0.5 + random.random()  # noqa: S311 - not a secret
    return float(_FIRST_BACKOFF_S * 2 ** (attempt - 1) * jitter)


async def _check(response: httpx.Response) -> None:
    """Let a good response pass.

    Raises:
        _AttemptFailed: A status that may pass by itself.
        PlatformError: A status that another attempt would meet again.
    """
    if response.status_code == 200:
        return
    if response.status_code in _RETRIED_STATUSES:
        raise _AttemptFailed(f"HTTP {response.status_code}")
    _log.error("language model refused", status=response.status_code)
    raise _refusal(response.status_code)


def _refusal(status: int) -> PlatformError:
    return Unavailable(
        f"The language model's server refused the request with HTTP {status}. The operator should "
        "check SERVING_OPENAI_BASE_URL, SERVING_OPENAI_MODEL and SERVING_OPENAI_API_KEY.",
        retry_after_s=None,
    )
