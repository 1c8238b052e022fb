"""What a snapshot says is to be copied: versions and conversations, tenant by tenant."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import BinaryIO
from uuid import UUID

import orjson

from planes.shared.domain import ChatMessage, original_key, text_key

_UNFINISHED = ("received", "parsing", "embedding")


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a document that is not deleted; `chunks` is 0 unless it is searchable."""

    tenant_id: UUID
    document_id: UUID
    version_id: UUID
    status: str
    is_live: bool
    sha256: str
    chunks: int

    @property
    def original(self) -> str:
        """The key of the file that was uploaded."""
        return original_key(self.tenant_id, self.document_id, self.version_id)

    @property
    def needs(self) -> set[str]:
        """The keys of the objects without which it is worth nothing."""
        if self.is_live:
            return {self.original, text_key(self.tenant_id, self.document_id, self.version_id)}
        return {self.original} if self.status in _UNFINISHED else set()


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation that is not deleted.

    Attributes:
        tenant_id: Whose.
        conversation_id: Which.
        message_count: The highest number of a message.
        answers: The number of each answer, older ones to the same question too.
        waiting: The questions in the outbox by their numbers; some may yet be taken back.
    """

    tenant_id: UUID
    conversation_id: UUID
    message_count: int
    answers: dict[UUID, int]
    waiting: dict[int, UUID]

    def had(self, message: ChatMessage) -> bool:
        """Return whether the snapshot has a message, which may have come into the log since."""
        if message.role == "assistant":
            return message.id in self.answers
        is_counted = message.seq <= self.message_count
        return is_counted and self.waiting.get(message.seq, message.id) == message.id


def versions_by_tenant(lines: BinaryIO) -> Iterator[tuple[UUID, list[Version]]]:
    """Yield each tenant with its versions."""
    for tenant_id, group in groupby(map(_version, lines), attrgetter("tenant_id")):
        yield tenant_id, list(group)


def conversations_by_tenant(lines: BinaryIO) -> Iterator[tuple[UUID, Iterator[Conversation]]]:
    """Yield each tenant with its conversations, which are to be read before the next tenant."""
    yield from groupby(map(_conversation, lines), attrgetter("tenant_id"))


def _version(line: bytes) -> Version:
    row = orjson.loads(line)
    return Version(
        tenant_id=UUID(row["tenant_id"]),
        document_id=UUID(row["document_id"]),
        version_id=UUID(row["version_id"]),
        status=row["status"],
        is_live=row["is_live"],
        sha256=row["sha256"],
        chunks=row["chunks"] or 0,
    )


def _conversation(line: bytes) -> Conversation:
    row = orjson.loads(line)
    return Conversation(
        UUID(row["tenant_id"]),
        UUID(row["conversation_id"]),
        row["message_count"],
        {UUID(answer): seq for answer, seq in row["answers"].items()},
        {int(seq): UUID(question) for seq, question in row["waiting"].items()},
    )
