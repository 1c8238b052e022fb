"""What a snapshot says is to be copied: versions and conversations, tenant by tenant."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
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
    def subject(self) -> str:
        """How it is named to an operator."""
        return f"document {self.document_id}"

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
        created_at: No message of it is older.
        message_count: The highest number of a message; every number from 1 has one.
        answers: The number of each answer, older ones to the same question too.
        waiting: The number of each message in the outbox; a question may yet be taken back.
    """

    tenant_id: UUID
    conversation_id: UUID
    created_at: datetime
    message_count: int
    answers: dict[UUID, int]
    waiting: dict[UUID, int]

    def had(self, message: ChatMessage) -> bool:
        """Return whether the snapshot has a message, which may have come into the log since."""
        if message.role == "assistant":
            return message.id in self.answers
        waits = {each for each, seq in self.waiting.items() if seq == message.seq}
        return message.seq <= self.message_count and (not waits or message.id in waits)


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
        datetime.fromisoformat(row["created_at"]),
        row["message_count"],
        {UUID(answer): seq for answer, seq in row["answers"].items()},
        {UUID(message): seq for message, seq in row["waiting"].items()},
    )
