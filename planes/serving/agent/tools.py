"""What a language model may call while it answers.

Tools read; none writes. They see what the caller sees: the scope comes from the verified token and
the request, and no argument of a model can widen it.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from planes.serving.agent.calculator import NotArithmetic, calculate
from planes.serving.agent.catalog import DocumentCatalog
from planes.serving.caches.passages import CachedRetriever
from planes.shared.domain import ChatMode, Passage, SearchScope
from planes.shared.ports import Tool, ToolCall

_FOUND = 3
_LISTED = 50
_HEADINGS = 80
_NO_SUCH_CALL = (
    "There is no tool {name}, or the call cannot be read. A call names a tool and gives a JSON "
    "object of its arguments. Call one so, or answer without."
)


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Search(_Arguments):
    query: Annotated[str, Field(min_length=1, max_length=500, description="What to look for.")]
    document_id: Annotated[UUID | None, Field(description="Look only here.")] = None


class _Nothing(_Arguments):
    pass


class _Document(_Arguments):
    document_id: UUID


class _Expression(_Arguments):
    expression: Annotated[str, Field(max_length=200, description="Like (2 + 3) * 4.5 / 7")]


class _Zone(_Arguments):
    timezone: Annotated[str, Field(max_length=64, description="IANA name.")] = "UTC"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool says, and the passages in it that the answer may cite."""

    text: str
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class _Bound:
    tool: Tool
    arguments: type[_Arguments]
    use: Callable[[Any, SearchScope, int], Awaitable[ToolResult]]


class Toolbox:
    """The tools of an agent; one instance serves all requests."""

    def __init__(
        self,
        retriever: CachedRetriever,
        catalog: DocumentCatalog,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Store what the tools work with."""
        self._retriever = retriever
        self._catalog = catalog
        self._clock = clock
        self._documents = (
            _bound("search_documents", "Find passages in the documents.", _Search, self._search),
            _bound("list_documents", "List the documents with their ids.", _Nothing, self._list),
            _bound("get_document_outline", "List a document's headings.", _Document, self._outline),
        )
        self._plain = (
            _bound("calculator", "Calculate exactly.", _Expression, self._calculate),
            _bound("current_time", "Tell date and time.", _Zone, self._time),
        )

    def offered(self, mode: ChatMode) -> tuple[Tool, ...]:
        """Return what may be called; open chat does not touch the documents."""
        return tuple(bound.tool for bound in self._bound(mode))

    async def use(
        self, call: ToolCall, scope: SearchScope, *, mode: ChatMode, first_number: int
    ) -> ToolResult:
        """Return what a call brings; a mistake of the model is told to it as the result.

        Args:
            call: As the model wrote it.
            scope: What the caller may see.
            mode: Of the chat.
            first_number: Of the passages that the result may hold; citations use it.

        Raises:
            Unavailable: A store does not answer.
        """
        bound = next((b for b in self._bound(mode) if b.tool.name == call.name), None)
        if bound is None:
            return ToolResult(_NO_SUCH_CALL.format(name=call.name[:64]))
        try:
            arguments = bound.arguments.model_validate_json(call.arguments or "{}")
        except ValidationError as error:
            wrong = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors())
            return ToolResult(f"The arguments do not fit: {wrong}.")
        return await bound.use(arguments, scope, first_number)

    def _bound(self, mode: ChatMode) -> tuple[_Bound, ...]:
        return (*self._documents, *self._plain) if mode is ChatMode.RAG else self._plain

    async def _search(self, wanted: _Search, scope: SearchScope, first_number: int) -> ToolResult:
        inside = _narrowed(scope, wanted.document_id)
        found = await self._retriever.retrieve(wanted.query, scope=inside, k=_FOUND)
        text = "\n".join(
            f"[{number}] {passage.document_name}: {passage.chunk.text}"
            for number, passage in enumerate(found.passages, start=first_number)
        )
        return ToolResult(text or "Nothing was found.", tuple(found.passages))

    async def _list(self, _: _Nothing, scope: SearchScope, __: int) -> ToolResult:
        listed = await self._catalog.documents(scope, limit=_LISTED + 1)
        lines = [f"{one.id} {one.name}" for one in listed[:_LISTED]]
        if len(listed) > _LISTED:
            lines.append("There are more.")
        return ToolResult("\n".join(lines) or "There are no documents.")

    async def _outline(self, wanted: _Document, scope: SearchScope, _: int) -> ToolResult:
        headings = await self._catalog.outline(wanted.document_id, scope, limit=_HEADINGS)
        lines = [
            one.breadcrumb if one.page is None else f"{one.breadcrumb} (page {one.page})"
            for one in headings
        ]
        return ToolResult("\n".join(lines) or "There is no such document, or it has no headings.")

    async def _calculate(self, wanted: _Expression, _: SearchScope, __: int) -> ToolResult:
        try:
            return ToolResult(calculate(wanted.expression))
        except NotArithmetic as error:
            return ToolResult(str(error))

    async def _time(self, wanted: _Zone, _: SearchScope, __: int) -> ToolResult:
        try:
            zone = ZoneInfo(wanted.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return ToolResult("There is no such time zone.")
        return ToolResult(self._clock().astimezone(zone).strftime("%A, %Y-%m-%d %H:%M %Z"))


def _bound(
    name: str,
    description: str,
    arguments: type[_Arguments],
    use: Callable[[Any, SearchScope, int], Awaitable[ToolResult]],
) -> _Bound:
    schema = arguments.model_json_schema()
    parameters = {"type": "object", "properties": schema.get("properties", {})}
    parameters["required"] = schema.get("required", [])
    return _Bound(Tool(name, description, parameters), arguments, use)


def _narrowed(scope: SearchScope, document_id: UUID | None) -> SearchScope:
    """Return the scope within one document; a document outside of it leaves nothing."""
    if document_id is None:
        return scope
    is_inside = scope.document_ids is None or document_id in scope.document_ids
    return replace(scope, document_ids=(document_id,) if is_inside else ())


def _place(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location)) or "the object"
