"""One streamed chat completion, read chunk by chunk."""

import json
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import uuid4

import structlog

from planes.serving.generation.tags import Parted, TagFilter
from planes.serving.generation.tokens import TokenCounter
from planes.shared.domain import FinishReason
from planes.shared.errors import Unavailable
from planes.shared.ports import Generated, Prompt, ToolCall, ToolCallPiece

_CUT_OFF = "The language model's server cut the answer off by its rules for content."
_log = structlog.get_logger(__name__)


class BrokenAnswer(RuntimeError):
    """The server ended the stream early, or sent what is no completion."""


class Completion:
    """Text, tokens and end of an answer; tokens never exceed what the prompt allows.

    Tokens are the server's where it tells them (`stream_options.include_usage`), else an estimate.
    Reasoning that was not asked for is neither shown nor charged.
    """

    def __init__(self, prompt: Prompt, prompt_tokens: int, tokens: TokenCounter) -> None:
        """Start with the estimate of the prompt's tokens."""
        self._limits = (prompt.max_prompt_tokens, prompt.max_tokens)
        self._is_thinking_asked = prompt.thinking
        self._tokens = tokens
        self._thinking = TagFilter("think")
        self._prompt_tokens = prompt_tokens
        self._answer_tokens = self._thinking_tokens = 0
        self._told: _Told | None = None
        self._calls: dict[int, list[str]] = {}
        self._finish_reason: FinishReason | None = None
        self._halves: dict[str, str] = {}
        self._places: dict[int, int] = {}
        self.has_started = False

    def read(self, data: str) -> Generated | None:
        """Return the piece that an event's data holds, or None.

        Raises:
            BrokenAnswer: The data is an error, or no chunk of a completion.
            Unavailable: The server cut the answer off by its rules.
        """
        if data.strip() == "[DONE]":
            self._finish_reason = self._finish_reason or FinishReason.STOP
            return None
        chunk = _chunk(data)
        self._read_usage(chunk.get("usage"))
        choice: dict[str, Any] = next(iter(chunk.get("choices") or ()), {})
        if (reason := choice.get("finish_reason")) == "content_filter":
            raise Unavailable(_CUT_OFF, retry_after_s=None)
        if reason is not None:
            self._finish_reason = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
        delta = choice.get("delta") or {}
        reasoning = delta.get("reasoning_content") or delta.get("reasoning") or ""
        reasoning = self._whole_characters("reasoning", reasoning)
        text = self._whole_characters("content", delta.get("content") or "")
        calls = delta.get("tool_calls") or ()
        if not text and not reasoning and not calls:
            return None
        self.has_started = True
        pieces = tuple(self._read_call(call) for call in calls)
        parted = self._thinking.feed(text)
        generated = self._generated(Parted(parted.text, f"{reasoning}{parted.inside}"))
        return replace(generated, call_pieces=pieces) if pieces else generated

    def finish(self) -> Generated:
        """Return the last piece, with the finish reason.

        Raises:
            BrokenAnswer: The stream ended before the answer did.
        """
        if self._finish_reason is None:
            raise BrokenAnswer("the stream ended without a finish reason")
        source = "estimate" if self._told is None else "server"
        _log.info("completion", tokens_by=source, finish_reason=self._finish_reason)
        last = self._generated(self._thinking.finish(), self._finish_reason)
        return replace(last, tool_calls=tuple(ToolCall(*call) for call in self._calls.values()))

    def _whole_characters(self, of: str, text: str) -> str:
        """Return text without half a surrogate pair at its end; it waits for the other half."""
        text = self._halves.pop(of, "") + text
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._halves[of] = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _read_call(self, call: dict[str, Any]) -> ToolCallPiece:
        """Join a piece of a call: the first names the tool, the others bring its arguments."""
        place = self._places.setdefault(int(call.get("index") or 0), len(self._places))
        function = call.get("function") or {}
        name, written = function.get("name") or "", function.get("arguments") or ""
        written = self._whole_characters(f"call {place}", written)
        if self._told is None:
            self._answer_tokens += self._tokens.count(f"{name}{written}")
        if (known := self._calls.get(place)) is not None:
            known[1] = known[1] or name
            known[2] += written
            return ToolCallPiece(place, None, None, written)
        call_id = call.get("id") or f"call_{uuid4().hex[:12]}"
        self._calls[place] = [call_id, name, written]
        return ToolCallPiece(place, call_id, name, written)

    def _read_usage(self, usage: dict[str, Any] | None) -> None:
        if usage:
            self._prompt_tokens = int(usage.get("prompt_tokens") or self._prompt_tokens)
            details = usage.get("completion_tokens_details") or {}
            self._told = _Told(
                int(usage.get("completion_tokens") or 0), details.get("reasoning_tokens")
            )

    def _generated(self, parted: Parted, finish_reason: FinishReason | None = None) -> Generated:
        if self._told is None:
            self._answer_tokens += self._tokens.count(parted.text)
        self._thinking_tokens += self._tokens.count(parted.inside)
        most_prompt, most_completion = self._limits
        completion_tokens = self._completion_tokens()
        if self._prompt_tokens > most_prompt or completion_tokens > most_completion:
            _log.warning(
                "tokens above the limits are not charged",
                prompt_tokens=self._prompt_tokens,
                completion_tokens=completion_tokens,
            )
        return Generated(
            parted.text,
            min(self._prompt_tokens, most_prompt),
            min(completion_tokens, most_completion),
            finish_reason,
            thinking=parted.inside if self._is_thinking_asked else "",
        )

    def _completion_tokens(self) -> int:
        """Return the tokens to charge so far."""
        if self._told is None:
            return self._answer_tokens + self._thinking_tokens * self._is_thinking_asked
        if self._is_thinking_asked:
            return self._told.completion_tokens
        thinking = self._told.reasoning_tokens
        unasked = self._thinking_tokens if thinking is None else int(thinking)
        return max(0, self._told.completion_tokens - unasked)


class _Told(NamedTuple):
    """A server's own count; of reasoning only where it tells that apart."""

    completion_tokens: int
    reasoning_tokens: int | None


def _chunk(data: str) -> dict[str, Any]:
    try:
        chunk = json.loads(data)  # which takes half of a surrogate pair, as orjson does not
    except ValueError as error:
        raise BrokenAnswer("a chunk is not JSON") from error
    if not isinstance(chunk, dict) or chunk.get("error"):
        raise BrokenAnswer("the server reports an error in the stream")
    return chunk
