"""What is known of a request that a client may repeat."""

from dataclasses import dataclass
from uuid import UUID

from planes.shared.domain import TenantContext


@dataclass(frozen=True, slots=True)
class RequestId:
    """A client's name for one request; the names of other users and tenants are others."""

    context: TenantContext
    key: str


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where a request's answer is billed and stored; `seq` is its number in the conversation."""

    answer_id: UUID
    conversation_id: UUID
    message_id: UUID
    seq: int


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What a request was answered, as it was sent."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Earlier:
    """The attempt that had a key before.

    At most one of the four says what came of it; all unset: it is in flight or it has died.

    Attributes:
        attempt: Its id.
        fingerprint: Of its content.
        response: What it was answered.
        settled: Where its answer stands, if it was billed.
        under_way: Where its answer will stand, if it is under way.
        is_given_back: Its answer failed and cost nothing.
        lease_left_s: Until it counts as dead if nothing more is heard of it; not positive: it does.
    """

    attempt: UUID
    fingerprint: bytes
    response: StoredResponse | None
    settled: AnswerPlace | None
    under_way: AnswerPlace | None
    is_given_back: bool
    lease_left_s: float
