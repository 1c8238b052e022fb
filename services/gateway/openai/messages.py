"""The messages of a chat completion, and the conversation that they tell."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from planes.shared.wire import ChatTurn, FunctionCall, FunctionRound
from services.gateway.chat.schemas import MAX_MESSAGE_CHARS
from services.gateway.openai.tools import MAX_TOOLS, FunctionName
from services.gateway.schemas import InputModel, Text

_Role = Literal["system", "developer", "user", "assistant", "tool"]


def _joined(value: object) -> object:
    """Return the text of parts; images, sounds and files have none."""
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            raise ValueError(  # noqa: TRY004 (pydantic reads ValueError)
                'Takes a text or parts of the form {"type": "text", "text": …}'
            )
        texts.append(text)
    return "\n".join(texts)


_TEXT_PART = {
    "type": "object",
    "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    "required": ["type", "text"],
}
_CONTENT = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": _TEXT_PART}, {"type": "null"}],
    "description": "A text, or parts of type `text`.",
}
Content = Annotated[Text | None, BeforeValidator(_joined), WithJsonSchema(_CONTENT)]
CallId = Annotated[Text, Field(min_length=1, max_length=200)]


class CalledFunction(InputModel):
    """The function that was called, with its arguments as JSON."""

    name: FunctionName
    arguments: Annotated[Text, Field(max_length=MAX_MESSAGE_CHARS)]


class CallIn(InputModel):
    """A call that an answer made."""

    id: CallId
    type: Literal["function"]
    function: CalledFunction
    index: int | None = None


class MessageIn(InputModel):
    """A message of the conversation so far; what answers carry beside it is taken and ignored."""

    role: _Role
    content: Content = None
    name: str | None = None
    tool_calls: Annotated[list[CallIn], Field(max_length=MAX_TOOLS)] | None = None
    tool_call_id: CallId | None = None
    function_call: None = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    citations: Any = None
    grounded: Any = None
    message_id: Any = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a client's messages tell.

    Attributes:
        question: The user's last message.
        history: What was said before it, oldest first.
        rounds: What the model called since then, with the results.
        wishes: What the application asks of every answer.
    """

    question: str
    history: tuple[ChatTurn, ...]
    rounds: tuple[FunctionRound, ...]
    wishes: str


def conversation_of(messages: Sequence[MessageIn]) -> Conversation:
    """Read the messages of a request, oldest first.

    Raises:
        ValueError: They do not end with a question or with the results of calls, or calls and
            results do not belong together.
    """
    wishes = [m.content for m in messages if m.role in {"system", "developer"} and m.content]
    reader = _Reader()
    for message in messages:
        reader.read(message)
    *history, last = reader.turns or [ChatTurn(role="assistant", content="")]
    said = [message for message in messages if message.role not in {"system", "developer"}]
    is_result = bool(said) and said[-1].role == "tool"
    is_question = bool(said) and said[-1].role == "user" and bool((said[-1].content or "").strip())
    if reader.awaited or last.role != "user" or not (is_question or is_result):
        raise ValueError(
            "The last message must be the user's, and hold a text; or it is the last of the "
            "results of all `tool_calls` that were made to answer it"
        )
    return Conversation(last.content, tuple(history), tuple(reader.rounds), "\n\n".join(wishes))


@dataclass(slots=True)
class _Reader:
    """Turns of a conversation; `rounds` are those that no answer has followed yet."""

    turns: list[ChatTurn] = field(default_factory=list)
    rounds: list[FunctionRound] = field(default_factory=list)
    awaited: dict[str, str | None] = field(default_factory=dict)

    def read(self, message: MessageIn) -> None:
        text = message.content or ""
        if len(text) > MAX_MESSAGE_CHARS:
            raise ValueError(f"A message holds at most {MAX_MESSAGE_CHARS} characters")
        if message.tool_calls and message.role != "assistant":
            raise ValueError("Only messages of the role `assistant` hold `tool_calls`")
        if message.role == "tool":
            self._take(message.tool_call_id, text)
        elif self.awaited:
            raise ValueError("After `tool_calls` come messages of the role `tool`, one for each")
        elif message.role == "user":
            self._say("user", text)
        elif message.role == "assistant" and message.tool_calls:
            self._call(text, message.tool_calls)
        elif message.role == "assistant":
            self._say("assistant", text)

    def _say(self, role: Literal["user", "assistant"], text: str) -> None:
        if role == "user" and self.rounds:  # the client did not ask for an answer after them
            self._say("assistant", "")
        if text or self.rounds:
            self.turns.append(ChatTurn(role=role, content=text, rounds=tuple(self.rounds)))
            self.rounds = []

    def _call(self, text: str, calls: Sequence[CallIn]) -> None:
        made = tuple(
            FunctionCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in calls
        )
        self.awaited = {call.id: None for call in made}
        if len(self.awaited) < len(made):
            raise ValueError("Two `tool_calls` of a message have the same id")
        self.rounds.append(FunctionRound(text=text, calls=made, results=()))

    def _take(self, call_id: str | None, text: str) -> None:
        """Take the result of a call; the last one completes the round."""
        if call_id is None or self.awaited.get(call_id, "") is not None:
            raise ValueError("A message of the role `tool` answers a call by its `tool_call_id`")
        self.awaited[call_id] = text
        if None not in self.awaited.values():
            results = tuple(result or "" for result in self.awaited.values())
            self.rounds[-1] = self.rounds[-1].model_copy(update={"results": results})
            self.awaited = {}
