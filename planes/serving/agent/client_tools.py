"""The caller's own tools: the model may call them, and the caller runs them and asks again."""

import json

from planes.serving.agent.prompts import plain
from planes.serving.agent.state import AgentState
from planes.shared.ports import Tool
from planes.shared.wire import Function


def has_client_tools(state: AgentState) -> bool:
    """Whether the caller's tools may be called now, or were: then none of ours are."""
    return state.get("client_tools") is not None or bool(state.get("rounds"))


def offered_tools(state: AgentState) -> tuple[Tool, ...]:
    """Return the caller's tools for the model to read, without control tokens of chat templates."""
    wanted = state.get("client_tools")
    return tuple(map(_tool, wanted.functions)) if wanted is not None else ()


def _tool(function: Function) -> Tool:
    return Tool(
        function.name,
        plain(function.description),
        json.loads(plain(json.dumps(function.parameters, ensure_ascii=False))),
        strict=function.strict,
    )
