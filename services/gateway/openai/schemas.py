"""Bodies and answers of OpenAI's API, as far as they have a meaning here."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, field_validator

from planes.shared.wire import ChatTurn, CitationOut
from services.gateway.chat.schemas import MAX_MESSAGE_CHARS, DocumentIds, Mode
from services.gateway.schemas import InputModel, Text

_Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
_MAX_MESSAGES = 1000


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


def _nothing(value: object) -> None:
    """Refuse what asks for something that cannot be had here."""
    if value not in (None, [], {}, 0, ""):
        raise ValueError("This is not supported here; leave it out")


Unsupported = Annotated[None, BeforeValidator(_nothing)]

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


class MessageIn(InputModel):
    """A message of the conversation so far; what answers carry beside it is taken and ignored."""

    role: _Role
    content: Content = None
    name: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None
    citations: Any = None
    grounded: Any = None
    message_id: Any = None


class StreamOptions(InputModel):
    """What a stream tells beside the text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ResponseFormat(InputModel):
    """How an answer is written: as text."""

    type: Literal["text"]


class CompletionRequest(InputModel):
    """A question with the conversation before it.

    What would change an answer and cannot be done here is refused; settings of sampling and of
    OpenAI's own business are taken and ignored, so that clients that always send them work.
    """

    model: Text = Field(min_length=1, max_length=200, examples=["extractive"])
    messages: list[MessageIn] = Field(
        min_length=1,
        max_length=_MAX_MESSAGES,
        examples=[[{"role": "user", "content": "How long is the warranty?"}]],
    )
    max_tokens: int | None = Field(default=None, ge=1, le=8192)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=8192)
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    mode: Mode | None = Field(default=None, description="Ours: `open` answers without documents.")
    document_ids: DocumentIds | None = Field(
        default=None, description="Ours: only these documents may be cited."
    )
    top_k: int = Field(default=5, ge=1, le=50, description="Ours: passages to answer from.")

    n: Literal[1] | None = None
    logprobs: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    response_format: ResponseFormat | None = None
    tools: Unsupported = None
    tool_choice: Literal["none", "auto"] | None = None
    functions: Unsupported = None
    function_call: Literal["none", "auto"] | None = None
    stop: Unsupported = None
    top_logprobs: Unsupported = None
    audio: Unsupported = None
    web_search_options: Unsupported = None
    moderation: Unsupported = None

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    seed: int | None = None
    logit_bias: dict[str, float] | None = None
    parallel_tool_calls: bool | None = None
    user: str | None = Field(default=None, description="Ignored: the credentials say who asks.")
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    prediction: Any = None

    @field_validator("messages")
    @classmethod
    def _ends_with_a_question(cls, messages: list[MessageIn]) -> list[MessageIn]:
        if any(m.role in {"tool", "function"} or m.tool_calls for m in messages):
            raise ValueError("Results of tools cannot be answered here: tools are not supported")
        last = messages[-1]
        if last.role != "user" or not (last.content or "").strip():
            raise ValueError("The last message must be the user's, and hold a text")
        if any(len(m.content or "") > MAX_MESSAGE_CHARS for m in messages):
            raise ValueError(f"A message holds at most {MAX_MESSAGE_CHARS} characters")
        return messages

    @property
    def question(self) -> str:
        """The last message."""
        return self.messages[-1].content or ""

    @property
    def wishes(self) -> str:
        """What the application asks of every answer."""
        told = [m.content for m in self.messages if m.role in {"system", "developer"}]
        return "\n\n".join(filter(None, told))

    @property
    def history(self) -> tuple[ChatTurn, ...]:
        """The questions and answers before the last message, oldest first."""
        turns = [m for m in self.messages[:-1] if m.role in {"user", "assistant"} and m.content]
        return tuple(
            ChatTurn(
                role="user" if m.role == "user" else "assistant",
                content=m.content or "",
            )
            for m in turns
        )

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with its usage."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionUsage(BaseModel):
    """Tokens, and what they cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cost_usd: str = Field(examples=["0.0000123400"])


class CompletionMessage(BaseModel):
    """The answer. `message_id` is what `POST /feedback` takes."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    citations: list[CitationOut]
    grounded: bool
    message_id: UUID


class Choice(BaseModel):
    """The one answer to a question."""

    index: Literal[0] = 0
    message: CompletionMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class Completion(BaseModel):
    """A whole answer."""

    id: str = Field(examples=["chatcmpl-01a1fd26-1267-7285-bf84-61d8d204dc7a"])
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="Seconds since 1970.")
    model: str = Field(examples=["extractive"])
    choices: list[Choice]
    usage: CompletionUsage
    conversation_id: UUID


class Model(BaseModel):
    """A model that answers here."""

    id: str = Field(examples=["extractive"])
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since 1970; not known, 0.")
    owned_by: Literal["polyplane"] = "polyplane"


class Models(BaseModel):
    """The models of the platform."""

    object: Literal["list"] = "list"
    data: list[Model]


def _texts(value: object) -> object:
    if isinstance(value, str):
        return [value]
    is_tokens = isinstance(value, list) and any(isinstance(each, int | list) for each in value)
    if is_tokens:
        raise ValueError("Takes texts: tokens of another model's tokenizer cannot be read here")
    return value


_INPUT = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "maxItems": 2048,
        },
    ],
    "examples": ["How long is the warranty?"],
}
Input = Annotated[
    list[Annotated[Text, Field(min_length=1)]],
    Field(min_length=1, max_length=2048),
    BeforeValidator(_texts),
    WithJsonSchema(_INPUT),
]


class EmbeddingsRequest(InputModel):
    """Texts to be turned into vectors."""

    model: Text = Field(
        min_length=1, max_length=200, examples=["sentence-transformers/all-MiniLM-L6-v2"]
    )
    input: Input
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(default=None, ge=1, description="None but the model's own.")
    user: str | None = Field(default=None, description="Ignored: the credentials say who asks.")
    truncate: bool = Field(
        default=False, description="Ours: read the beginnings of texts that are too long."
    )


class Embedding(BaseModel):
    """The vector of one text, of length 1."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str = Field(
        description="Numbers, or base64 of them as little-endian float32."
    )


class EmbeddingsUsage(BaseModel):
    """Tokens, and what they cost."""

    prompt_tokens: int
    total_tokens: int
    cost_usd: str = Field(examples=["0.0000001200"])


class Embeddings(BaseModel):
    """One vector a text, in order."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingsUsage
