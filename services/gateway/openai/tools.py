"""Functions that a client lets the model call, as OpenAI's API has them, and their bounds."""

from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, Field, model_validator

from planes.shared.wire import ClientTools, Function
from services.gateway.schemas import InputModel, Text

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 16
_NAME = r"^[A-Za-z0-9_-]{1,64}$"

FunctionName = Annotated[
    str, Field(min_length=1, max_length=64, pattern=_NAME, examples=["get_weather"])
]


def _schema(value: dict[str, Any]) -> dict[str, Any]:
    """Refuse what is no schema of an object, or nested too deeply."""
    if value and value.get("type") != "object":
        raise ValueError('Takes a JSON Schema of an object: {"type": "object", "properties": …}')
    if _is_deeper(value, MAX_SCHEMA_DEPTH):
        raise ValueError(f"Takes a schema of at most {MAX_SCHEMA_DEPTH} levels")
    return value


def _is_deeper(value: object, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


class FunctionIn(InputModel):
    """A function; without `parameters` it takes none."""

    name: FunctionName
    description: Annotated[Text, Field(max_length=4000)] | None = None
    parameters: Annotated[dict[str, Any], AfterValidator(_schema)] | None = Field(
        default=None,
        description="JSON Schema of an object.",
        examples=[{"type": "object", "properties": {"city": {"type": "string"}}}],
    )
    strict: bool | None = Field(
        default=None, description="Arguments always fit the schema; not with `qwen`."
    )


class ToolIn(InputModel):
    """A tool: a function that the client runs."""

    type: Literal["function"]
    function: FunctionIn


def _bounded(tools: list[ToolIn]) -> list[ToolIn]:
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise ValueError("Two functions have the same name")
    size = sum(len(orjson.dumps(tool.model_dump())) for tool in tools)
    if size > MAX_TOOLS_BYTES:
        raise ValueError(f"Takes definitions of at most {MAX_TOOLS_BYTES} bytes together")
    return tools


Tools = Annotated[list[ToolIn], Field(max_length=MAX_TOOLS), AfterValidator(_bounded)]


class ChosenFunction(InputModel):
    """The name of a function."""

    name: FunctionName


class ChosenTool(InputModel):
    """The function that must be called."""

    type: Literal["function"]
    function: ChosenFunction


ToolChoice = Literal["none", "auto", "required"] | ChosenTool


class CallableTools(InputModel):
    """The part of a request that says what the model may call."""

    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = Field(
        default=None, description="false: one call at a time, at most."
    )

    @model_validator(mode="after")
    def _chooses_what_there_is(self) -> Self:
        choice, tools = self.tool_choice, self.tools or []
        names = {tool.function.name for tool in tools}
        if isinstance(choice, ChosenTool) and choice.function.name not in names:
            raise ValueError("`tool_choice` names a function that is not among `tools`")
        if choice == "required" and not tools:
            raise ValueError("`tool_choice` is `required`, but there are no `tools`")
        return self

    @property
    def client_tools(self) -> ClientTools | None:
        """What the model may call; None: nothing."""
        if not self.tools or self.tool_choice == "none":
            return None
        choice = self.tool_choice
        named = choice.function.name if isinstance(choice, ChosenTool) else None
        return ClientTools(
            functions=tuple(map(_function, self.tools)),
            must_call=named is not None or choice == "required",
            named=named,
            in_parallel=self.parallel_tool_calls is not False,
        )


def _function(tool: ToolIn) -> Function:
    wanted = tool.function
    return Function(
        name=wanted.name,
        description=wanted.description or "",
        parameters=wanted.parameters or {"type": "object", "properties": {}},
        strict=wanted.strict is True,
    )
