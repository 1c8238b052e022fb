"""What the agent knows while it answers, and what it tells while it does."""

from dataclasses import dataclass, field
from typing import TypeAlias, TypedDict
from uuid import UUID

from planes.serving.agent.tools import Toolbox
from planes.serving.caches.passages import CachedRetriever
from planes.serving.retrieval.hybrid import HybridRetriever
from planes.serving.retrieval.neighbours import Neighbours
from planes.serving.sentences import Span
from planes.shared.domain import ChatMode, FinishReason, Passage, SearchScope
from planes.shared.ports import Generator, ToolCall, ToolCallPiece, ToolExchange
from planes.shared.wire import ChatTurn, CitationOut, ClientTools, FunctionRound, TextSpan, Usage


@dataclass(frozen=True, slots=True)
class AgentTools:
    """What the nodes work with; one instance serves all requests."""

    retriever: CachedRetriever | HybridRetriever
    generator: Generator
    toolbox: Toolbox | None = None
    """What the generator may call; None where it calls nothing."""
    is_language_model: bool = False
    """Whether the generator can also rewrite a question and sum up a conversation."""
    neighbours: Neighbours | None = None
    """What stands beside passages; None where the generator quotes and does not read on."""


class AgentState(TypedDict, total=False):
    """One answer under way. The first block comes from the request."""

    message: str
    history: tuple[ChatTurn, ...]
    mode: ChatMode
    scope: SearchScope
    top_k: int
    max_prompt_tokens: int
    max_tokens: int
    earlier_summary: str
    earlier_summary_seq: int
    conversation_id: UUID
    thinking: bool
    wishes: str
    client_tools: ClientTools | None
    rounds: tuple[FunctionRound, ...]

    question: str
    summary: str
    summary_seq: int
    is_rewritten: bool
    passages: tuple[Passage, ...]
    is_useful: bool
    exchanges: tuple[ToolExchange, ...]
    looked_up: tuple[Passage, ...]
    draft: "Draft"
    answer: "Answer"
    """A finished one; `draft` is one that still grows."""


@dataclass(slots=True)
class Draft:
    """An answer that grows over one or more calls of the generator, with all that they have cost.

    Attributes:
        content: What was shown.
        begins_at: Where in it the text of the last call begins.
        supported: Where in it the claims stand that a checked citation supports.
        citations: Checked, in the order of their markers.
        usage: Of all calls, those that wrote nothing to show included.
        last_prompt_tokens: Of the last call alone.
        calls: What the generator wants to know before it goes on.
    """

    content: str = ""
    begins_at: int = 0
    supported: list[Span] = field(default_factory=list)
    citations: list[CitationOut] = field(default_factory=list)
    usage: Usage = field(default_factory=lambda: Usage(prompt_tokens=0, completion_tokens=0))
    last_prompt_tokens: int = 0
    finish_reason: FinishReason | None = None
    calls: tuple[ToolCall, ...] = ()

    @property
    def written(self) -> str:
        """What the last call has written so far."""
        return self.content[self.begins_at :]


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer; `citations` are checked, `grounded` says that there is one at least."""

    content: str
    citations: tuple[CitationOut, ...]
    finish_reason: FinishReason
    usage: Usage
    grounded: bool = False
    unsupported: tuple[TextSpan, ...] = ()
    summary: str | None = None
    summary_seq: int = 0
    tool_calls: tuple[ToolCall, ...] = ()
    """Of the caller's own tools: the caller asks again with their results."""


@dataclass(frozen=True, slots=True)
class StepTaken:
    """A step that a person may follow."""

    name: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class TextAdded:
    """A further piece of the answer, and the tokens of all pieces so far."""

    text: str
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation whose marker has been shown."""

    citation: CitationOut


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """A further piece of a call of one of the caller's own tools."""

    piece: ToolCallPiece


@dataclass(frozen=True, slots=True)
class TokensSpent:
    """Tokens of this answer so far."""

    usage: Usage


Progress: TypeAlias = StepTaken | TextAdded | Cited | ToolCalled | TokensSpent | Answer
