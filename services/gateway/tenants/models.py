"""Tenants, their members, and what is on its way in or out."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from planes.shared.domain import Role


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant as its members see it."""

    id: UUID
    name: str
    plan: str
    created_at: datetime
    member_count: int


@dataclass(frozen=True, slots=True)
class Member:
    """A person in a tenant."""

    user_id: UUID
    email: str
    display_name: str
    role: Role
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class Invitation:
    """An open offer to become a member; `invited_by` vouches for the role."""

    id: UUID
    tenant_id: UUID
    email: str
    role: Role
    invited_by: UUID
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class NewInvitation:
    """Rows for an invitation whose token is known to nobody but the invited person."""

    id: UUID
    email: str
    email_key: str
    role: Role
    token_hash: bytes


@dataclass(frozen=True, slots=True)
class Ended:
    """What a person lost: sessions and API keys by id, and tokens below a version (0: none).

    The version is that of the membership in `tenant_id`, or the user's, of every tenant.
    """

    user_id: UUID
    session_ids: tuple[UUID, ...]
    version: int = 0
    tenant_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class TenantDeletion:
    """A tenant that is being removed; `receipt` shows how far, to whoever has it."""

    tenant_id: UUID
    receipt_id: UUID
    receipt: str
