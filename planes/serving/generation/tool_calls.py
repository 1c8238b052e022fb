"""Calls of tools in what a model streams: as text by Qwen's template, as deltas by OpenAI's API."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from planes.shared.ports import ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MAX_CALLS = 16
_MAX_CHARS = 8000  # of one call; what is longer is no call


class WrittenCalls:
    """Takes `<tool_call>{"name": …, "arguments": {…}}</tool_call>` out of a stream of pieces.

    That is how Qwen3's chat template has a model call tools.
    """

    def __init__(self) -> None:
        """Start outside of any call."""
        self._held = ""
        self.calls: tuple[ToolCall, ...] = ()

    def feed(self, piece: str) -> str:
        """Return what of the text so far may be shown and was not yet."""
        self._held += piece
        shown = ""
        while True:
            before, opened, inside = self._held.partition(_OPEN)
            if not opened:
                kept = _overlap(before)
                self._held = before[len(before) - kept :]
                return shown + before[: len(before) - kept]
            body, closed, after = inside.partition(_CLOSE)
            if not closed:
                self._held = f"{opened}{inside[: _MAX_CHARS + len(_CLOSE)]}"
                return shown + before
            self._keep(body)
            shown, self._held = shown + before.rstrip(), after.lstrip()

    def finish(self) -> str:
        """Return what was held back; a call that was broken off is neither made nor shown."""
        text, self._held = self._held, ""
        return "" if text.startswith(_OPEN) else text

    def _keep(self, body: str) -> None:
        try:
            wanted = orjson.loads(body)
        except orjson.JSONDecodeError:
            wanted = {}
        name = wanted.get("name") if isinstance(wanted, dict) else None
        arguments = wanted.get("arguments", {}) if isinstance(wanted, dict) else {}
        written = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        if len(self.calls) < _MAX_CALLS:
            call = ToolCall(f"call_{len(self.calls) + 1}", str(name or "unreadable"), written)
            self.calls = (*self.calls, call)


def _overlap(text: str) -> int:
    """Return the length of the longest end of `text` that begins a call."""
    return next(
        (n for n in range(min(len(text), len(_OPEN) - 1), 0, -1) if _OPEN.startswith(text[-n:])), 0
    )


@dataclass(slots=True)
class _Parts:
    id: str = ""
    name: str = ""
    arguments: str = ""


class StreamedCalls:
    """Collects `delta.tool_calls` (https://platform.openai.com/docs/api-reference/chat-streaming)."""

    def __init__(self) -> None:
        """Start without any."""
        self._parts: dict[int, _Parts] = {}

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """Return the calls so far, in the order of their indices."""
        return tuple(
            ToolCall(part.id or f"call_{index}", part.name, part.arguments)
            for index, part in sorted(self._parts.items())
            if part.name
        )

    def read(self, deltas: Sequence[Any] | None) -> str:
        """Add the pieces in a chunk and return their text, which counts as tokens."""
        added = ""
        for delta in deltas or ():
            function = delta.get("function") or {}
            index = int(delta.get("index") or 0)
            part = self._parts.get(index)
            if part is None:
                if len(self._parts) >= _MAX_CALLS:
                    continue
                part = self._parts[index] = _Parts()
            name, arguments = function.get("name") or "", function.get("arguments") or ""
            part.id = part.id or delta.get("id") or ""
            part.name += name
            part.arguments = (part.arguments + arguments)[:_MAX_CHARS]
            added += f"{name}{arguments}"
        return added
