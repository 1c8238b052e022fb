"""Questions, answers, conversations and messages as clients see them."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from planes.shared.domain import ChatMode, FinishReason
from planes.shared.wire import CitationOut, FunctionCall, TextSpan
from services.gateway.billing.schemas import Usage
from services.gateway.schemas import NOT_BLANK, InputModel, Name, Text

MAX_MESSAGE_CHARS = 32_000
_MODE_NAMES = {"rag_mode": "rag", "open_chat": "open"}


def _mode_name(value: object) -> object:
    return _MODE_NAMES.get(value, value) if isinstance(value, str) else value


Mode = Annotated[ChatMode, BeforeValidator(_mode_name)]
DocumentIds = Annotated[list[UUID], Field(max_length=1000)]


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("the message is blank")
    return value


Message = Annotated[
    Text,
    AfterValidator(_not_blank),
    Field(
        min_length=1,
        max_length=MAX_MESSAGE_CHARS,
        examples=["How long is the warranty?"],
        json_schema_extra=NOT_BLANK,
    ),
]


class AnswerOptions(InputModel):
    """How a question is to be answered."""

    mode: Mode | None = Field(
        default=None, description="`rag` unless the conversation says otherwise."
    )
    use_rag: bool | None = Field(default=None, description="false means `mode: open`.")
    document_ids: DocumentIds | None = Field(
        default=None, description="Only these documents may be cited."
    )
    top_k: int = Field(default=5, ge=1, le=50, description="Passages to answer from.")
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    thinking: bool = Field(
        default=False,
        description="Tell the model's reasoning in `step` events named `think`, and bill it.",
    )
    stream: bool = False

    @property
    def wanted_mode(self) -> ChatMode | None:
        """The mode that was asked for by either name."""
        if self.use_rag is False:
            return ChatMode.OPEN
        return self.mode or (ChatMode.RAG if self.use_rag else None)


class Question(AnswerOptions):
    """A message in a conversation that is named elsewhere."""

    message: Message


class FollowUp(AnswerOptions):
    """A further message of a conversation, or the wish for another answer to the last one."""

    message: Message | SkipJsonSchema[None] = Field(
        default=None, description="May be left out, or is the last one, with `regenerate`."
    )
    regenerate: bool = Field(
        default=False,
        description="Answer the last message again; the new answer takes the old one's place.",
    )

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if self.message is None and not self.regenerate:
            raise ValueError("send a `message`, or `regenerate: true`")
        return self

    def question(self, message: str, mode: ChatMode | None = None) -> Question:
        """Return it as a question: with this message, in this mode where none is asked for."""
        options = self.model_dump(exclude={"message", "regenerate"})
        options["mode"] = self.wanted_mode or mode
        return Question.model_construct(**options, message=message)


class ChatRequest(Question):
    """A message, in a new conversation or in one that exists."""

    conversation_id: UUID | None = None


class QueryRequest(InputModel):
    """A single question, without a conversation."""

    query: Message
    top_k: int = Field(default=5, ge=1, le=50, description="Passages to answer from.")


class QueryAnswer(BaseModel):
    """An answer from the tenant's documents, and what it cites."""

    answer: str
    sources: list[CitationOut]
    grounded: bool
    finish_reason: FinishReason
    message_id: UUID = Field(description="What `POST /feedback` takes.")

    @classmethod
    def of(cls, answer: "ChatAnswer") -> Self:
        """Return what is shown of an answer."""
        message = answer.message
        return cls(
            answer=message.content or "",
            sources=answer.citations,
            grounded=answer.grounded,
            finish_reason=answer.finish_reason,
            message_id=message.id,
        )


class AnswerMessage(BaseModel):
    """The stored answer; a stream has sent its content already."""

    id: UUID
    role: Literal["assistant"] = "assistant"
    content: str | None = None
    created_at: datetime


class ChatAnswer(BaseModel):
    """A whole answer. Each citation's quote is `text[start:end]` of its document's version."""

    id: UUID
    conversation_id: UUID
    message: AnswerMessage
    citations: list[CitationOut]
    grounded: bool
    unsupported: list[TextSpan] = Field(
        default=[], description="Sentences of the content that no checked citation supports."
    )
    finish_reason: FinishReason
    model: str = Field(examples=["extractive"])
    mode: ChatMode
    usage: Usage
    has_partial_history: bool = Field(
        default=False,
        description="The chat log did not answer, so that earlier messages of the conversation "
        "were not read. Only the first telling of an answer says so.",
    )
    tool_calls: list[FunctionCall] = Field(
        default=[], exclude=True, description="Of a program's functions; only `/v1` offers any."
    )

    def without_content(self) -> dict[str, Any]:
        """Return what ends a stream, which has sent the content already."""
        return self.model_dump(mode="json", exclude={"message": {"content"}})


class StoredMessage(BaseModel):
    """A message of a conversation."""

    id: UUID
    role: Literal["user", "assistant"]
    content: str
    citations: list[dict[str, Any]]
    unsupported: list[TextSpan] = []
    tool_calls: list[FunctionCall] = Field(
        default=[], description="What a program's model wanted it to run, instead of an answer."
    )
    usage: Usage | None
    model: str | None
    finish_reason: FinishReason | None
    created_at: datetime


class ConversationInput(InputModel):
    """A new conversation, with its first message if there is one."""

    title: Name | None = None
    mode: Mode = ChatMode.RAG
    document_ids: DocumentIds | None = None
    message: Message | None = None

    def question(self) -> Question | None:
        """Return the first message as a question; None where there is none."""
        if self.message is None:
            return None
        return Question(message=self.message, mode=self.mode, document_ids=self.document_ids)


class ConversationChange(InputModel):
    """What may change in a conversation."""

    title: Name | SkipJsonSchema[None] = None
    mode: Mode | SkipJsonSchema[None] = None
    document_ids: DocumentIds | None = None


class Conversation(BaseModel):
    """A conversation of the caller."""

    id: UUID
    title: str
    mode: ChatMode
    document_ids: list[UUID] | None
    message_count: int
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: asyncpg.Record) -> Self:
        """Return the public form of a row."""
        return cls(**{name: row[name] for name in Conversation.model_fields})


class NewConversation(Conversation):
    """A conversation with the answer to its first message, if there was one."""

    answer: ChatAnswer | None = None
