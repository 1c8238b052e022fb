"""What the gateway and the serving plane say to each other; fields are only ever added.

`POST /v1/answer` answers with server-sent events whose bytes the gateway passes on, except `usage`,
`done` and `error`, which it rebuilds because it knows prices. `POST /v1/search` and
`POST /v1/embed` answer with JSON.
Every request carries `x-polyplane-wire: 1` and a token that the gateway signed for 60 seconds.
"""

import base64
import hmac
import time
from dataclasses import dataclass
from typing import Any, Literal, Self
from uuid import UUID

import jwt
import orjson
from pydantic import BaseModel, ConfigDict, Field

from planes.shared.domain import ChatMode, DocumentFilter, FinishReason, TenantContext
from planes.shared.errors import Unauthenticated

WIRE_VERSION = "1"
WIRE_HEADER = "x-polyplane-wire"
_AUDIENCE = "polyplane-serving"
_ISSUER = "polyplane-gateway"
_LIFETIME_S = 60


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_HEADER = _base64url(b'{"alg":"HS256","typ":"JWT"}')


class WireModel(BaseModel):
    """Tolerates fields that a newer peer adds."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True)


class FunctionCall(WireModel):
    """A model's wish that a program runs a function; `arguments` is the JSON that it wrote."""

    id: str
    name: str
    arguments: str


class FunctionRound(WireModel):
    """Calls of a program's functions, a result for each; `text` is what the model said first."""

    text: str = ""
    calls: tuple[FunctionCall, ...]
    results: tuple[str, ...]


class ChatTurn(WireModel):
    """One earlier message, oldest first in a history.

    Before an answer stand the `rounds` of calls that led to it; one that was not written is empty.
    """

    role: Literal["user", "assistant"]
    content: str
    seq: int = Field(default=0, ge=0)
    """Its number in the conversation; 0: the platform does not keep the conversation."""
    rounds: tuple[FunctionRound, ...] = ()


class Function(WireModel):
    """What a program lets the model call; `parameters` is a JSON Schema.

    `strict` asks that arguments fit it always.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    strict: bool = False


class ClientTools(WireModel):
    """Functions that the caller's program runs, and how freely the model chooses among them.

    With `must_call` the answer is a call: of the function `named`, if one is. Without `in_parallel`
    there is one call at most.
    """

    functions: tuple[Function, ...]
    must_call: bool = False
    named: str | None = None
    in_parallel: bool = True


class Scope(WireModel):
    """What a search may see; the tenant is not here, it comes from the token alone."""

    generation: int = Field(ge=1)
    hidden_versions: tuple[UUID, ...] = ()
    document_ids: tuple[UUID, ...] | None = None
    documents: DocumentFilter | None = None
    corpus_version: int | None = Field(default=None, ge=0)
    """Of the tenant's documents, read before all else here; without it nothing is cached."""


class AnswerRequest(WireModel):
    """One question with all that the stateless plane needs to answer it.

    A `fresh` answer is not told from a cache.
    """

    answer_id: UUID
    message_id: UUID
    conversation_id: UUID
    message: str
    history: tuple[ChatTurn, ...] = ()
    mode: ChatMode = ChatMode.RAG
    scope: Scope
    top_k: int = Field(default=5, ge=1, le=50)
    max_prompt_tokens: int = Field(ge=1)
    max_tokens: int = Field(ge=1)
    summary: str = Field(default="", max_length=8000)
    """What earlier turns were about, as an earlier answer's `done` told it."""
    summary_seq: int = Field(default=0, ge=0)
    """The number of the last turn that `summary` tells; 0: it tells none."""
    thinking: bool = False
    wishes: str = ""
    """What the caller's application asks of the answer, below the platform's own rules."""
    fresh: bool = False
    client_tools: ClientTools | None = None
    rounds: tuple[FunctionRound, ...] = ()
    """What the model called for this message so far; it goes on from there."""


class SearchRequest(WireModel):
    """A retrieval without an answer."""

    query: str
    scope: Scope
    top_k: int = Field(default=10, ge=1, le=50)


class EmbedRequest(WireModel):
    """Texts to be turned into vectors, each at most `max_tokens` long: so much is paid for."""

    texts: tuple[str, ...]
    max_tokens: int = Field(ge=1)
    truncate: bool = False
    """Read the beginnings of longer texts, instead of refusing them."""


class EmbedResponse(WireModel):
    """One vector a text, in order: base64 of its numbers as little-endian float32."""

    model: str
    tokens: int = Field(ge=0)
    vectors: tuple[str, ...]


class PassageOut(WireModel):
    """A passage as the public API shows it; `text == extracted[start:end]`.

    `score` orders the passages of one answer: a sum of standard scores, which says how far a
    passage stands above the other candidates of this question, and nothing beyond it.
    """

    document_id: UUID
    document_name: str
    version: int
    page: int | None
    heading: str
    start: int
    end: int
    text: str
    score: float


class CacheLookup(WireModel):
    """A cache of the plane that a request has asked: `answer`, `retrieval` or `embedding`."""

    cache: str
    is_hit: bool


class SearchResponse(WireModel):
    """The best passages, best first; `caches` is for the gateway's metrics."""

    passages: tuple[PassageOut, ...]
    caches: tuple[CacheLookup, ...] = ()


class CitationOut(WireModel):
    """A checked citation: `quote == extracted[start:end]` of that version."""

    marker: str
    document_id: UUID
    document_name: str
    version: int
    page: int | None
    start: int
    end: int
    quote: str
    score: float


class TextSpan(WireModel):
    """A half-open span of an answer's content, in Unicode code points."""

    start: int = Field(ge=0)
    end: int = Field(ge=0)


class Usage(WireModel):
    """Tokens by the generator's own tokenizer."""

    prompt_tokens: int = Field(ge=0, lt=2**31)
    completion_tokens: int = Field(ge=0, lt=2**31)

    def plus(self, prompt_tokens: int, completion_tokens: int) -> Self:
        """Return these tokens with those of a further call."""
        return type(self)(
            prompt_tokens=self.prompt_tokens + prompt_tokens,
            completion_tokens=self.completion_tokens + completion_tokens,
        )


class Meta(WireModel):
    """The first event, sent before any work."""

    id: UUID
    conversation_id: UUID
    model: str
    mode: ChatMode


class CallPiece(WireModel):
    """The event `tool_call`: a further piece of a call of a program's function.

    The first piece of each `index` has the call's id and name; `arguments` are joined in order.
    """

    index: int = Field(ge=0)
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Done(WireModel):
    """The last event of a whole answer; the gateway keeps `content` and does not pass it on.

    `caches` is for the gateway's metrics.
    """

    content: str
    citations: tuple[CitationOut, ...]
    grounded: bool
    finish_reason: FinishReason
    model: str
    usage: Usage
    unsupported: tuple[TextSpan, ...] = ()
    """Sentences of an answer from documents that no checked citation supports."""
    summary: str | None = None
    """What the turns up to `summary_seq` were about, if that is newer than the request's."""
    summary_seq: int = Field(default=0, ge=0)
    caches: tuple[CacheLookup, ...] = ()
    tool_calls: tuple[FunctionCall, ...] = ()
    """Calls of the program's functions; then it is asked again with their results."""


class Problem(WireModel):
    """The last event of an answer that failed; where it is permanent, a repeat meets it again."""

    code: str
    title: str
    status: int
    detail: str
    is_permanent: bool = False


class GeneratorStatus(WireModel):
    """Which generator runs, and why it was chosen."""

    kind: Literal["qwen", "openai", "extractive"]
    model: str
    reason: str


class ServingHealth(WireModel):
    """`GET /v1/health` of the plane."""

    wire: str
    status: Literal["ok", "degraded", "unavailable"]
    generator: GeneratorStatus
    embedding_model: str | None = None
    parts: dict[str, str]


def encode_event(event: str, data: BaseModel | dict[str, object], *, event_id: int) -> bytes:
    """Return one server-sent event frame (WHATWG HTML, 9.2), JSON on a single data line."""
    body = data.model_dump_json().encode() if isinstance(data, BaseModel) else orjson.dumps(data)
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event_id, event.encode(), body)


@dataclass(frozen=True, slots=True)
class ServingClaims:
    """What a verified token says."""

    context: TenantContext
    request_id: str


class ServingTokens:
    """Mints and verifies the tokens between gateway and plane (HS256 over a shared secret)."""

    def __init__(self, secret: str) -> None:
        """Store the shared secret, 32 bytes or more.

        Raises:
            ValueError: The secret is shorter.
        """
        if len(secret.encode()) < 32:
            raise ValueError("SERVING_TOKEN_SECRET needs 32 bytes or more")
        self._secret = secret
        self._key = secret.encode()

    def mint(self, context: TenantContext, request_id: str) -> str:
        """Return a token for one request, valid for 60 seconds.

        Put together here (RFC 7515, 3.1): the library takes ten times as long, for every request.
        """
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": _AUDIENCE,
            "iat": now,
            "exp": now + _LIFETIME_S,
            "sub": str(context.user_id),
            "tenant": str(context.tenant_id),
            "jti": request_id,
        }
        signed = _HEADER + b"." + _base64url(orjson.dumps(claims))
        signature = hmac.digest(self._key, signed, "sha256")
        return (signed + b"." + _base64url(signature)).decode()

    def mint_for_health(self) -> str:
        """Return a token of no tenant, with which the plane shows that it has the same secret."""
        return self.mint(TenantContext(UUID(int=0), UUID(int=0)), "health")

    def verify(self, token: str) -> ServingClaims:
        """Return who asks.

        Raises:
            Unauthenticated: The token is missing a claim, expired, or not the gateway's.
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                audience=_AUDIENCE,
                issuer=_ISSUER,
                leeway=5,
                options={"require": ["exp", "iat", "sub", "tenant", "jti"]},
            )
            context = TenantContext(UUID(claims["tenant"]), UUID(claims["sub"]))
        except (jwt.PyJWTError, ValueError) as error:
            raise Unauthenticated("The request does not carry the gateway's token.") from error
        return ServingClaims(context, claims["jti"])
