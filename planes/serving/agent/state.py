"""What the agent knows while it answers, and what it tells while it does."""

from dataclasses import dataclass
from typing import TypeAlias, TypedDict

from planes.serving.caches.passages import CachedRetriever
from planes.shared.domain import ChatMode, FinishReason, Passage, SearchScope
from planes.shared.ports import Generator
from planes.shared.wire import ChatTurn, CitationOut, Usage


@dataclass(frozen=True, slots=True)
class AgentTools:
    """What the nodes work with; one instance serves all requests."""

    retriever: CachedRetriever
    generator: Generator


class AgentState(TypedDict, total=False):
    """One answer under way. The first block comes from the request."""

    message: str
    history: tuple[ChatTurn, ...]
    mode: ChatMode
    scope: SearchScope
    top_k: int
    max_prompt_tokens: int
    max_tokens: int
    wishes: str

    question: str
    passages: tuple[Passage, ...]
    is_useful: bool
    answer: "Answer"


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer; `citations` are checked, `grounded` says that there is one at least."""

    content: str
    citations: tuple[CitationOut, ...]
    finish_reason: FinishReason
    usage: Usage
    grounded: bool = False


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
class TokensSpent:
    """Tokens of this answer so far."""

    usage: Usage


Progress: TypeAlias = StepTaken | TextAdded | Cited | TokensSpent | Answer
