"""The nouns that the gateway and both planes share. Frozen, without input or output."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from uuid_utils.compat import uuid7


class Role(StrEnum):
    """What a member may do in one tenant; each role includes the ones before it."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        """0 for viewer up to 3 for owner."""
        return list(Role).index(self)


class DocumentStatus(StrEnum):
    """Where the newest version of a document stands."""

    RECEIVED = "received"
    PARSING = "parsing"
    EMBEDDING = "embedding"
    READY = "ready"
    FAILED = "failed"
    DELETED = "deleted"


class ChatMode(StrEnum):
    """Whether an answer draws on the tenant's documents."""

    RAG = "rag"
    OPEN = "open"


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TenantContext:
    """Who acts, in which tenant. Comes only from a verified token."""

    tenant_id: UUID
    user_id: UUID


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of one version's extracted text.

    `text == extracted[start:end]`, counted in Unicode code points. `heading` is the breadcrumb of
    headings above the span, joined by " > ", or empty. `page` counts from 1, None where the format
    has no pages.
    """

    id: UUID
    tenant_id: UUID
    document_id: UUID
    version_id: UUID
    ordinal: int
    start: int
    end: int
    page: int | None
    heading: str
    text: str
    language: str


@dataclass(frozen=True, slots=True)
class Heading:
    """A breadcrumb of headings, and the first page that it stands on."""

    breadcrumb: str
    page: int | None


@dataclass(frozen=True, slots=True)
class VersionCount:
    """How many chunks a version has in a store, and how many different ordinals among them."""

    version_id: UUID
    chunks: int
    places: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk found by at least one arm, by its id; a score that the store cannot fill is None.

    `sentence` is the cosine of the chunk's closest sentence, where it was asked for.
    """

    id: UUID
    document_id: UUID
    version_id: UUID
    dense: float | None
    lexical: float | None
    sentence: float | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its place's score; 0 is the pool's average, higher is better."""

    candidate: Candidate
    score: float


@dataclass(frozen=True, slots=True)
class Arms:
    """The union of what the dense and the lexical arm found, in no particular order."""

    candidates: tuple[Candidate, ...]

    @property
    def is_empty(self) -> bool:
        """Whether neither arm found anything."""
        return not self.candidates


class Comparison(StrEnum):
    """How a member of a document's metadata is compared with a wanted value.

    `in`: it is one of several values. `gte`, `lte`: it is a number or a text like the wanted one,
    and at least, or at most, that; texts compare by code points, as dates of ISO 8601 do.
    """

    IN = "in"
    AT_LEAST = "gte"
    AT_MOST = "lte"


@dataclass(frozen=True, slots=True)
class MetadataCondition:
    """What must hold of one member of a document's metadata; `value` is plain JSON."""

    key: str
    comparison: Comparison
    value: Any


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents are meant; all that is given must hold.

    Attributes:
        tags: Documents have one of these; None does not ask.
        uploaded_from: They came at this time or later.
        uploaded_to: They came before this time.
        metadata: Their metadata contain this JSON object.
        conditions: What else must hold of their metadata.
    """

    tags: tuple[str, ...] | None = None
    uploaded_from: datetime | None = None
    uploaded_to: datetime | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    conditions: tuple[MetadataCondition, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Which chunks a search may see. The store applies all of it inside its query."""

    tenant_id: UUID
    generation: int
    hidden_versions: tuple[UUID, ...] = ()
    document_ids: tuple[UUID, ...] | None = None
    documents: DocumentFilter | None = None
    corpus_version: int | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A chunk chosen for an answer, with what a person needs to find it.

    `beside` are chunks next to it in the same version, which a language model reads with it.
    """

    chunk: Chunk
    document_name: str
    version: int
    score: float
    beside: tuple[Chunk, ...] = ()

    @property
    def read(self) -> tuple[Chunk, ...]:
        """The chunk and those beside it, in the document's order."""
        return tuple(sorted((self.chunk, *self.beside), key=lambda chunk: chunk.ordinal))


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a conversation as the chat log keeps it.

    `seq` orders the messages of a conversation from 1; `citations`, `usage`, `unsupported`
    and `tool_calls` hold the JSON shapes of the public API.
    """

    id: UUID
    tenant_id: UUID
    conversation_id: UUID
    seq: int
    role: str
    content: str
    created_at: datetime
    citations: list[dict[str, object]] = field(default_factory=list)
    usage: dict[str, object] | None = None
    model: str | None = None
    mode: str | None = None
    finish_reason: str | None = None
    grounded: bool | None = None
    unsupported: list[dict[str, int]] = field(default_factory=list)
    tool_calls: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class IndexRecipe:
    """What makes a generation of the index: an embedder by its name, and a chunker.

    A chunker's name is `semchunk-` and the most tokens of a chunk, its heading included.
    """

    embedder: str
    chunker: str

    @property
    def max_tokens(self) -> int:
        """The most tokens of a chunk."""
        return int(self.chunker.removeprefix("semchunk-"))


def new_id() -> UUID:
    """Return a time-ordered identifier (UUIDv7, RFC 9562)."""
    return uuid7()


def chunk_id(version_id: UUID, ordinal: int) -> UUID:
    """Return the same id for the same chunk of the same version, however often it is written."""
    return uuid5(NAMESPACE_URL, f"polyplane:chunk:{version_id}:{ordinal}")


def original_key(tenant_id: UUID, document_id: UUID, version_id: UUID) -> str:
    """Object key of an uploaded file."""
    return f"{tenant_id}/documents/{document_id}/{version_id}/original"


def text_key(tenant_id: UUID, document_id: UUID, version_id: UUID) -> str:
    """Object key of the extracted text: UTF-8, line feeds as newlines, not normalised."""
    return f"{tenant_id}/documents/{document_id}/{version_id}/text.txt"


def spans_key(tenant_id: UUID, document_id: UUID, version_id: UUID) -> str:
    """Object key of the places of pages and headings in the extracted text: JSON."""
    return f"{tenant_id}/documents/{document_id}/{version_id}/spans.json"


def version_prefix(tenant_id: UUID, document_id: UUID, version_id: UUID) -> str:
    """Prefix of all objects of one version of a document."""
    return f"{document_prefix(tenant_id, document_id)}{version_id}/"


def document_prefix(tenant_id: UUID, document_id: UUID) -> str:
    """Prefix of all objects of one document, of every version."""
    return f"{tenant_id}/documents/{document_id}/"
