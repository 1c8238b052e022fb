"""Every seam with two or more adapters, on one page; those that vectors pass: `index_ports`."""

import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import BinaryIO, Protocol, Self
from uuid import UUID

from planes.shared.domain import ChatMessage, ChatMode, FinishReason, Passage
from planes.shared.wire import ChatTurn


def _boundary() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class Tool:
    """What a language model may call; `parameters` is the JSON Schema of its arguments.

    `strict` asks servers that can to write only arguments that fit it.
    """

    name: str
    description: str
    parameters: Mapping[str, object]
    strict: bool = False

    @property
    def definition(self) -> dict[str, object]:
        """The tool as OpenAI's API and chat templates take it."""
        function: dict[str, object] = {
            "name": self.name,
            "description": self.description,
            "parameters": dict(self.parameters),
        }
        if self.strict:
            function["strict"] = True
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish; `arguments` is the JSON that it wrote, unchecked."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCallPiece:
    """A further piece of a call; the first of each `index` has id and name, for the others None."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolExchange:
    """One round of calls with a result for each, in order; `text` is what the model said first."""

    text: str
    calls: tuple[ToolCall, ...]
    results: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a generator answers: the question, its passages best first, the history.

    `question` is the user's message; `standalone` is the same, understandable without the history.
    `instructions` stand in place of the mode's own, `summary` tells of turns that the history no
    longer holds. `tools` may be called now, and with `must_call` one has to be, `must_call_named`
    if that is set; `exchanges` are the rounds that were. `boundary` marks quoted data in the
    messages; who wrote the data cannot know it.
    Answers of one `conversation_id` go to one replica of a model, whose cache knows it. `thinking`
    asks for the model's reasoning, which is then charged like the answer.
    `wishes` are what the caller's application adds; the platform's own rules come first.
    """

    question: str
    standalone: str
    mode: ChatMode
    passages: Sequence[Passage]
    history: Sequence[ChatTurn]
    max_prompt_tokens: int
    max_tokens: int
    instructions: str | None = None
    summary: str = ""
    tools: Sequence[Tool] = ()
    exchanges: Sequence[ToolExchange] = ()
    boundary: str = field(default_factory=_boundary, compare=False)
    conversation_id: UUID | None = None
    thinking: bool = False
    wishes: str = ""
    must_call: bool = False
    must_call_named: str | None = None
    in_parallel: bool = True
    """Whether the model may call several tools at once."""
    are_callers_tools: bool = False
    """Whether the tools are those of the caller's program, not the platform's own."""


@dataclass(frozen=True, slots=True)
class Generated:
    """A piece of an answer with the token counts so far; the last one has a finish reason.

    `text` may hold markers like `[1]`, which name passages by their place, from 1. The last piece
    may hold calls of the prompt's tools; then the model waits for their results.
    """

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: FinishReason | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    thinking: str = ""
    """Reasoning before the answer, only where the prompt asks for it; no part of the answer."""
    call_pieces: tuple[ToolCallPiece, ...] = ()
    """Of the calls as they are written; all of an answer's make its `tool_calls`."""


class Generator(Protocol):
    """Writes answers. Its pieces joined are the answer, at most `max_tokens` long."""

    model: str

    def generate(self, prompt: Prompt) -> AsyncGenerator[Generated, None]:
        """Yield the answer piece by piece; closing the iterator stops the work.

        Raises:
            NoLanguageModel: The mode needs a language model and this is none.
            Unavailable: The model's server does not answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """What is known of an object; the mark changes whenever the content does."""

    size_bytes: int
    changed_at: datetime
    mark: str


class ObjectWriter(Protocol):
    """Writes one object, which appears whole when the context ends well, or not at all."""

    size_bytes: int

    @property
    def sha256(self) -> bytes:
        """The SHA-256 of what was written."""
        ...

    async def write(self, block: bytes | bytearray) -> None:
        """Append a block.

        Raises:
            OSError: The store does not take it.
        """
        ...

    async def __aenter__(self) -> Self:
        """Return the writer."""
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Make the object appear, or forget it where the context failed.

        Raises:
            OSError: The store does not take it.
        """
        ...


class ObjectStore(Protocol):
    """Uploaded files and extracted texts under keys, which are paths that begin with a tenant's id.

    Every method raises `FileNotFoundError` for an object that is not there, unless it says
    otherwise, and another `OSError` where the store does not answer.
    """

    def writer(self, key: str) -> ObjectWriter:
        """Return a context in which to write an object, replacing the one of that key."""
        ...

    async def put(self, key: str, content: bytes) -> None:
        """Write an object, replacing the one of that key."""
        ...

    async def get(self, key: str) -> bytes:
        """Return an object."""
        ...

    async def stat(self, key: str) -> ObjectStat:
        """Return what is known of an object."""
        ...

    def stream(
        self, key: str, start: int = 0, end: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield an object, or its bytes from `start` to before `end`, in blocks of about 1 MiB."""
        ...

    async def open(self, key: str) -> BinaryIO:
        """Return an object for reading at any place; its methods block, the caller closes it."""
        ...

    async def move(self, source: str, target: str) -> None:
        """Give an object another key, replacing what is there; to repeat it changes nothing."""
        ...

    async def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        ...

    def keys(self, prefix: str) -> AsyncGenerator[list[str], None]:
        """Yield the keys below a prefix that is empty or ends with "/", about 1,000 at a time.

        Those of one folder follow one another; other than that they are in no order.
        """
        ...

    async def count_prefix(self, prefix: str) -> int:
        """Return how many objects there are below such a prefix."""
        ...

    async def remove_prefix(self, prefix: str) -> int:
        """Remove every object below a prefix that ends with "/", and return how many.

        Raises:
            OSError: Something below the prefix is still there.
        """
        ...

    async def check(self) -> None:
        """Ask the store whether it answers.

        Raises:
            OSError: It does not, or does not let us in.
        """
        ...


class ChatLog(Protocol):
    """The messages of conversations, for good; those on their way to it wait in the outbox.

    A message never changes: who writes one again, under its id, writes the same. Every method
    raises `Unavailable` where the log does not answer in time.
    """

    async def append(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one tenant, of which some may be there; durable on return.

        After a failure some may have been written; to repeat it changes nothing.
        """
        ...

    async def page(
        self, tenant_id: UUID, conversation_id: UUID, *, after_seq: int, limit: int
    ) -> list[ChatMessage]:
        """Return up to `limit` messages with `seq > after_seq`, oldest first.

        Of several with the same `seq`, which are answers to one question, only the newest.
        """
        ...

    async def find(
        self, tenant_id: UUID, conversation_id: UUID, *, seq: int, message_id: UUID
    ) -> ChatMessage | None:
        """Return one message by its whole key; None: there is none."""
        ...

    def messages(
        self, tenant_id: UUID, conversation_id: UUID
    ) -> AsyncGenerator[list[ChatMessage], None]:
        """Yield all messages of a conversation, at most 500 at a time, by `seq`.

        Of several with the same `seq` all come, in no order. What is written or removed meanwhile
        may be missing or in it.
        """
        ...

    async def announce(self, messages: Sequence[ChatMessage]) -> None:
        """Have a deletion from now on hold against `adopt` of these messages, if it comes late."""
        ...

    async def adopt(self, messages: Sequence[ChatMessage]) -> None:
        """Write messages of one conversation that another log has; durable on return.

        They were announced, and their conversation was there after that. Nothing of one that is
        deleted stays. Other than that it is as `append`.
        """
        ...

    async def is_empty(self) -> bool:
        """Return whether no conversation has messages, nor had some that expired."""
        ...

    async def remove_conversation(self, tenant_id: UUID, conversation_id: UUID) -> int:
        """Remove every message of a conversation and return how many there were.

        The conversation has to be closed before: nothing is on its way to it. After a failure
        some may be gone, and to repeat it removes the rest.
        """
        ...

    async def check(self) -> None:
        """Ask the log whether it could be read and written now."""
        ...
