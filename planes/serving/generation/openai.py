"""Any server that speaks OpenAI's chat completions: vLLM, Ollama, Groq and the like.

The wire format is https://platform.openai.com/docs/api-reference/chat-streaming.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import structlog
from httpx_sse import EventSource, SSEError

from planes.serving.agent.prompts import Message
from planes.serving.generation.completion import BrokenAnswer, Completion
from planes.serving.generation.fitting import Fitted, PromptRead, fit
from planes.serving.generation.providers import FallbackChain, Provider, Turns
from planes.serving.generation.tokens import TokenCounter
from planes.shared.errors import InvalidInput, PlatformError, Unavailable
from planes.shared.ports import Generated, Prompt

_TOKENS_A_MESSAGE = 4
_OF_THE_QUESTION = frozenset({400, 413, 422})
_RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_DOWN = "The language model does not answer. Try again in a moment."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long providers may take, in seconds; the first token's covers all attempts.

    While others are untried, a provider has an equal share of what is left of it.
    """

    connect_s: float = 5.0
    first_token_s: float = 45.0
    between_tokens_s: float = 20.0


class _AttemptFailed(Exception):
    """The provider cannot answer now; another attempt may succeed."""


class _Refused(Exception):
    """The provider will not answer, however often it is asked."""


class _QuestionRefused(_Refused):
    """The provider takes others, but not this question."""


class OpenAIGenerator:
    """Streams answers from the first provider that answers."""

    def __init__(
        self, chain: FallbackChain, tokens: TokenCounter, *, deadlines: Deadlines | None = None
    ) -> None:
        """Store the parts.

        Args:
            chain: The providers.
            tokens: Estimates lengths before a server tells them, and where it never does.
            deadlines: The default ones if None.
        """
        self._chain = chain
        self.model = chain.model
        self._tokens = tokens
        self._deadlines = deadlines or Deadlines()

    async def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer as it comes; providers are changed before the first token alone.

        Raises:
            InvalidInput: The question alone exceeds the prompt's limit, or the provider refuses it.
            Unavailable: No provider answers in time, or one refuses or breaks off.
        """
        # a long prompt takes a tenth of a second to count
        fitted = await asyncio.to_thread(self._fitted, prompt)
        turns = Turns(self._chain.attempts(), self._deadlines.first_token_s)
        has_begun = False
        while (turn := await turns.next()) is not None:
            provider, deadline = turn
            completion = Completion(prompt, fitted.prompt_tokens, self._tokens)
            answer = self._attempt(provider, self._body(provider, fitted, prompt), deadline)
            try:
                async with aclosing(answer) as events:
                    async for data in events:
                        if not has_begun:
                            has_begun = True
                            yield PromptRead("", fitted.prompt_tokens, 0, passages=fitted.passages)
                        if (piece := completion.read(data)) is not None:
                            yield piece
                last = completion.finish()
            except _Refused as error:
                if not isinstance(error, _QuestionRefused):
                    self._chain.note_failure(provider)
                turns.refuse(provider, error)
            except (_AttemptFailed, BrokenAnswer, httpx.TransportError, TimeoutError) as error:
                host = provider.client.base_url.host
                _log.warning("language model failed", host=host, error=repr(error))
                self._chain.note_failure(provider)
                if completion.has_started:
                    raise Unavailable(_DOWN) from error
            else:
                self._chain.note_success(provider)
                yield last
                return
        raise _failure(turns.refusal)

    async def _attempt(
        self, provider: Provider, body: dict[str, object], first_token_at: float
    ) -> AsyncGenerator[str, None]:
        """Yield the data of each event of one request, each within its deadline."""
        clock = asyncio.get_running_loop()
        timeout = httpx.Timeout(None, connect=self._deadlines.connect_s)
        request = provider.client.stream("POST", "chat/completions", json=body, timeout=timeout)
        async with asyncio.timeout_at(first_token_at) as limit, request as response:
            _check(response)
            try:
                async with aclosing(EventSource(response).aiter_sse()) as events:
                    async for event in events:
                        limit.reschedule(None)  # the reader may take its time
                        yield event.data
                        limit.reschedule(clock.time() + self._deadlines.between_tokens_s)
            except SSEError as error:
                raise _AttemptFailed(str(error)) from error

    @staticmethod
    def _body(provider: Provider, fitted: Fitted, prompt: Prompt) -> dict[str, object]:
        return {
            "model": provider.model,
            "messages": fitted.messages,
            "max_tokens": prompt.max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **_calling(prompt),
            **provider.extra_body,
        }

    def _fitted(self, prompt: Prompt) -> Fitted:
        tools = self._tokens.count(str(_tools(prompt))) if prompt.tools else 0
        return fit(prompt, lambda messages: self._count(messages) + tools)

    def _count(self, messages: list[Message]) -> int:
        """Estimate the tokens of messages, calls of tools included."""
        texts = (f"{m['content']}{m.get('tool_calls') or ''}" for m in messages)
        return sum(self._tokens.count(text) + _TOKENS_A_MESSAGE for text in texts)


def _calling(prompt: Prompt) -> dict[str, object]:
    """Return what a request says of tools; what is usual is not said."""
    if not prompt.tools:
        return {}
    said: dict[str, object] = {"tools": _tools(prompt)}
    if prompt.must_call_named is not None:
        function = {"name": prompt.must_call_named}
        said["tool_choice"] = {"type": "function", "function": function}
    elif prompt.must_call:
        said["tool_choice"] = "required"
    if not prompt.in_parallel:
        said["parallel_tool_calls"] = False
    return said


def _tools(prompt: Prompt) -> list[dict[str, object]]:
    return [tool.definition for tool in prompt.tools]


def _failure(refusal: Exception | None) -> PlatformError:
    """Return why nobody answered; a refusal tells more than that all are down."""
    if isinstance(refusal, _QuestionRefused):
        return InvalidInput(str(refusal))
    return Unavailable(_DOWN) if refusal is None else Unavailable(str(refusal), retry_after_s=None)


def _check(response: httpx.Response) -> None:
    """Let a good response pass.

    Raises:
        _AttemptFailed: A status that may pass by itself.
        _Refused: A status that another attempt would meet again.
        _QuestionRefused: Likewise, but another question would not.
    """
    if response.status_code == 200:
        return
    if response.status_code in _RETRIED_STATUSES:
        raise _AttemptFailed(f"HTTP {response.status_code}")
    _log.error("language model refused", status=response.status_code, url=str(response.url))
    if response.status_code in _OF_THE_QUESTION:
        raise _QuestionRefused(
            f"The language model's server refused this question with HTTP {response.status_code}: "
            "it may be longer than the model reads, against the server's rules, or ask for what "
            "the model cannot do, such as calls of tools."
        )
    raise _Refused(
        f"The language model's server refused the request with HTTP {response.status_code}. The "
        "operator should check SERVING_OPENAI_BASE_URL, SERVING_OPENAI_MODEL, "
        "SERVING_OPENAI_API_KEY and SERVING_OPENAI_FALLBACKS."
    )
