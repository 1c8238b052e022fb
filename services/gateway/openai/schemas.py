"""Bodies and answers of OpenAI's API, as far as they have a meaning here."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, Field, WithJsonSchema, field_validator

from planes.shared.wire import CitationOut
from services.gateway.chat.schemas import DocumentIds, Mode
from services.gateway.openai.messages import MessageIn, conversation_of
from services.gateway.openai.tools import CallableTools
from services.gateway.schemas import InputModel, Text

_MAX_MESSAGES = 1000


def _nothing(value: object) -> None:
    """Refuse what asks for something that cannot be had here."""
    if value not in (None, [], {}, 0, ""):
        raise ValueError("This is not supported here; leave it out")


Unsupported = Annotated[None, BeforeValidator(_nothing)]


class StreamOptions(InputModel):
    """What a stream tells beside the text."""

    include_usage: bool = False
    include_obfuscation: bool | None = None


class ResponseFormat(InputModel):
    """How an answer is written: as text."""

    type: Literal["text"]


class CompletionRequest(CallableTools):
    """A question with the conversation before it.

    What would change an answer and cannot be done here is refused. Taken without effect is what
    changes nothing here, and how the most likely words are left: answers are always the likeliest.
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
    functions: Unsupported = None
    function_call: Literal["none", "auto"] | None = None
    stop: Unsupported = None
    top_logprobs: Unsupported = None
    audio: Unsupported = None
    web_search_options: Unsupported = None
    moderation: Unsupported = None

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: Unsupported = None
    presence_penalty: Unsupported = None
    logit_bias: Unsupported = None
    seed: int | None = None
    user: str | None = Field(default=None, description="Ignored: the credentials say who asks.")
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    reasoning_effort: str | None = None
    verbosity: Literal["medium"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: Any = None
    prompt_cache_retention: str | None = None
    prediction: Any = None

    @field_validator("messages")
    @classmethod
    def _tell_a_conversation(cls, messages: list[MessageIn]) -> list[MessageIn]:
        conversation_of(messages)
        return messages

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


class CompletionFunction(BaseModel):
    """A function of the client's, and the arguments that the model wrote: JSON, unchecked."""

    name: str
    arguments: str


class CompletionCall(BaseModel):
    """What the model wants the client to run."""

    id: str
    type: Literal["function"] = "function"
    function: CompletionFunction


class CompletionMessage(BaseModel):
    """The answer. `message_id` is what `POST /feedback` takes."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    tool_calls: list[CompletionCall] | None = Field(
        default=None, description="Of the client's functions, to be run by it."
    )
    citations: list[CitationOut]
    grounded: bool
    message_id: UUID


class Choice(BaseModel):
    """The one answer to a question."""

    index: Literal[0] = 0
    message: CompletionMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length", "tool_calls"]


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
