"""Calls of tools as Qwen writes them: `{"name": …, "arguments": {…}}` between `tool_call` tags.

The format is Hermes', https://qwen.readthedocs.io/en/latest/framework/function_call.html.
"""

import json
from uuid import uuid4

import structlog

from planes.shared.ports import Prompt, ToolCall

_log = structlog.get_logger(__name__)


UNREADABLE = "unreadable"
"""The name of a call that cannot be read; there is no such tool, and the model is told so."""


def forced_beginning(prompt: Prompt) -> str:
    """Return what an answer begins with that has to be a call: the model goes on from there."""
    if not prompt.must_call:
        return ""
    if prompt.must_call_named is None:
        return '<tool_call>\n{"name": "'
    return f'<tool_call>\n{{"name": {json.dumps(prompt.must_call_named)}, "arguments": '


def tool_calls(written: str) -> tuple[ToolCall, ...]:
    """Return the calls that stand one after another in `written`, up to one that is unreadable."""
    calls: list[ToolCall] = []
    decoder, left = json.JSONDecoder(), written.strip()
    while left:
        try:
            call, end = decoder.raw_decode(left)
            name, arguments = str(call["name"]), json.dumps(call.get("arguments") or {})
        except (ValueError, TypeError, KeyError, AttributeError):
            _log.warning("a call of a tool cannot be read", calls_before=len(calls))
            name, arguments, end = UNREADABLE, "{}", len(left)
        calls.append(ToolCall(f"call_{uuid4().hex[:12]}", name, arguments))
        left = left[end:].lstrip()
    return tuple(calls)
